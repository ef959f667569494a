"""Which of the evaluated images a model was trained on, and the split that it is evaluated on."""

from __future__ import annotations

import io
import json
import shutil
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from chexvision.artifact.contents import RUN
from chexvision.artifact.recorded_split import split_for
from chexvision.cli import main
from chexvision.data.rows import Rows, read_rows, record_split, sample_patients
from chexvision.data.source import ShardSource, find_shards
from chexvision.errors import ChexError, UsageError
from chexvision.evaluation.evaluate import _table_rows
from chexvision.evaluation.overlap import TrainingImages, notes_of
from chexvision.inference.predictions_file import write_predictions
from chexvision.label_maps.other_labels import OtherLabels
from chexvision.nih.patients import release
from chexvision.shards.split_rule import SHARDS, SplitChoice
from tests.evaluation.conftest import random_predictions
from tests.evaluation.trained_model import published

Model = Callable[[int], Path]
PATIENT = SplitChoice("patient")


def rows_of(names: list[str], patients: list[int]) -> Rows:
    count = len(names)
    zeros = np.zeros(count, np.int64)
    return Rows(np.array(names), np.zeros((count, 14), np.float32), np.array(patients), zeros.astype(np.int32), zeros)


def a_source(identity: str, *, synthetic: bool) -> ShardSource:
    return ShardSource("d", {}, identity, synthetic)


def evaluate(out: Path, *words: object) -> dict[str, object]:
    command = ["evaluate", *words, "--out", out, "--resamples", 100, "--precision", "fp32"]
    with pytest.raises(SystemExit) as ended:
        main([str(word) for word in command])
    assert not ended.value.code
    found: dict[str, object] = json.loads((out / "metrics.json").read_text())
    return found


def test_overlap_counts_images_and_patients_by_name_for_any_encoding() -> None:
    source, other = a_source("a", synthetic=False), a_source("b", synthetic=False)
    trained = TrainingImages.of(
        rows_of(["00000001_000.png", "00000001_001.png", "00000002_000.png"], [1, 1, 2]), source
    )
    measured = rows_of(["00000001_000.jpg", "00000001_002.png", "00000002_000.png", "00000003_000.png"], [1, 1, 2, 3])
    found = trained.overlap("m", "test", measured, other)
    assert (found.images, found.trained_images, found.patients, found.trained_patients) == (4, 2, 3, 2)
    assert notes_of(found, "measured here") == [
        "m was trained on 2 of the 4 test images measured here, and on some image of 2 of their 3 patients"
    ]
    apart = trained.overlap("m", "test", rows_of(["00000004_000.png"], [4]), other)
    assert notes_of(apart, "measured here") == []


def test_images_of_a_table_are_known_by_name_in_any_folder() -> None:
    source, names = a_source("a", synthetic=False), ["here/00000001_000.png", "00000001_002.png", "x.png"]
    trained = TrainingImages.of(rows_of(["00000001_000.png", "x.png"], [1, 7]), source)
    labels = OtherLabels(np.array(names), np.array([0, 0, 7]), np.zeros((3, 1)), ("Mass",), (("Mass",),))
    found = trained.overlap("m", "all", _table_rows(labels), a_source("", synthetic=False))
    assert (found.images, found.trained_images, found.patients, found.trained_patients) == (3, 2, 2, 2)


def test_patients_of_the_release_are_identified_by_file_name() -> None:
    names = list(release().filenames([1, 2, 3]))
    trained = TrainingImages.of(rows_of(names, [int(name[:8]) for name in names]), a_source("a", synthetic=False))
    renumbered = rows_of(["00000001_001.png", "00000002_000.png", "00000004_000.png"], [70, 80, 1])
    found = trained.overlap("m", "test", renumbered, a_source("b", synthetic=False))
    assert (found.trained_images, found.patients, found.trained_patients) == (2, 3, 2)


def test_equal_patient_numbers_of_another_hospital_are_not_an_overlap() -> None:
    names = list(release().filenames(range(1, 201)))
    trained = TrainingImages.of(rows_of(names, [int(name[:8]) for name in names]), a_source("nih", synthetic=False))
    theirs = rows_of([f"scan{i}.png" for i in range(1, 201)], list(range(1, 201)))
    found = trained.overlap("m", "test", theirs, a_source("b", synthetic=False))
    assert (found.trained_images, found.patients, found.trained_patients) == (0, 200, 0)

    # Patient numbers are valid within their own shards; other shards are compared by image only.
    own = TrainingImages.of(theirs.take(np.arange(100)), a_source("b", synthetic=False))
    other = rows_of(["scan1.png", "new2.png"], [1, 2])
    for identity, patients in (("b", 2), ("c", 1)):
        found = own.overlap("m", "test", other, a_source(identity, synthetic=False))
        assert (found.trained_images, found.trained_patients) == (1, patients)


def test_equal_names_of_other_synthetic_images_are_not_an_overlap() -> None:
    rows = rows_of(["00000001_000.png"], [1])
    trained = TrainingImages.of(rows, a_source("a", synthetic=True))
    assert trained.overlap("m", "test", rows, a_source("a", synthetic=True)).trained_images == 1
    for other in (a_source("b", synthetic=True), a_source("a", synthetic=False)):
        found = trained.overlap("m", "test", rows, other)
        assert (found.trained_images, found.trained_patients) == (0, 0)


def test_the_file_round_trips_and_is_reproducible(tmp_path: Path) -> None:
    rows = rows_of([f"{i}.png" for i in range(50)], list(range(50)))
    trained = TrainingImages.of(rows, a_source("a", synthetic=False))
    for name in ("a.npz", "b.npz"):
        trained.write(tmp_path / name)
    assert (tmp_path / "a.npz").read_bytes() == (tmp_path / "b.npz").read_bytes()
    again = TrainingImages.read(tmp_path / "a.npz")
    assert np.array_equal(again.images, trained.images)
    assert np.array_equal(again.patients, trained.patients)


def npy(array: NDArray[Any]) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, array)
    return buffer.getvalue()


def zipped(images: bytes, name: str = "images.npy", compression: int = zipfile.ZIP_STORED) -> bytes:
    """An archive of `images` and of valid patients."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", compression) as archive:
        archive.writestr(name, images)
        archive.writestr("patients.npy", npy(NUMBERS))
    return buffer.getvalue()


def altered(data: bytes, offset: int, value: int) -> bytes:
    """With a field of two bytes set in both headers of the first member; `offset` counts from the local one's."""
    changed = bytearray(data)
    for start, shift in ((0, 0), (data.index(b"PK\x01\x02"), 2)):
        changed[start + shift + offset : start + shift + offset + 2] = value.to_bytes(2, "little")
    return bytes(changed)


NUMBERS = np.arange(90, dtype=np.uint64)
HUGE = b"(1" + b"0" * 30 + b",), }"
GOOD = npy(NUMBERS)
DEFLATED = zipped(GOOD, compression=zipfile.ZIP_DEFLATED)
NO_LISTS = {
    "text": b"no numbers",
    "npy": GOOD,
    "npy, then zip": GOOD + zipped(GOOD),
    "floats": zipped(npy(NUMBERS.astype(float))),
    "two dimensions": zipped(npy(NUMBERS.reshape(9, 10))),
    "other member": zipped(GOOD, "others.npy"),
    "junk member": zipped(b"no numbers"),
    "member without suffix": zipped(b"no numbers", "images"),
    "impossible shape": zipped(GOOD.replace(b"(90,), }".ljust(len(HUGE)), HUGE)),
    "unhashable header": zipped(GOOD.replace(b"'descr'", b"[1    ]")),
    "truncated": zipped(GOOD)[:-40],
    "encrypted": altered(zipped(GOOD), 6, 1),
    "unknown compression": altered(zipped(GOOD), 8, 77),
    "damaged deflate": DEFLATED[:60] + b"\xff" * 40 + DEFLATED[100:],
    "damaged LZMA": altered(DEFLATED, 8, zipfile.ZIP_LZMA),
}


@pytest.mark.parametrize("kind", NO_LISTS)
def test_a_file_of_another_kind_is_a_one_line_error(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "t.npz"
    path.write_bytes(NO_LISTS[kind])
    with pytest.raises(ChexError, match="does not list training images") as error:
        TrainingImages.read(path)
    assert "\n" not in str(error.value)


def test_a_pickle_is_not_loaded(tmp_path: Path) -> None:
    np.savez(tmp_path / "t.npz", images=np.array([{}], object), patients=NUMBERS)
    with pytest.raises(ChexError, match="allow_pickle=False"):
        TrainingImages.read(tmp_path / "t.npz")


def test_a_zip_bomb_is_refused_before_it_is_decompressed(tmp_path: Path) -> None:
    path = tmp_path / "t.npz"
    path.write_bytes(zipped(npy(np.zeros(2**21 + 1, np.uint64)), compression=zipfile.ZIP_DEFLATED))
    with pytest.raises(ChexError, match="arrays of more than 16 MiB"):
        TrainingImages.read(path)
    with path.open("wb") as file:
        file.truncate(2**24 + 1)
    with pytest.raises(ChexError, match="more than 16 MiB"):
        TrainingImages.read(path)


@settings(max_examples=50)
@given(st.sampled_from([zipped(GOOD), DEFLATED, GOOD]), st.data())
def test_damaged_bytes_are_read_or_refused_in_one_line(
    tmp_path_factory: pytest.TempPathFactory, data: bytes, draw: st.DataObject
) -> None:
    path = tmp_path_factory.getbasetemp() / "damaged.npz"
    changed = bytearray(data)
    for place in draw.draw(st.lists(st.integers(0, len(data) - 1), min_size=1, max_size=4)):
        changed[place] = draw.draw(st.integers(0, 255))
    path.write_bytes(changed)
    try:
        TrainingImages.read(path)
    except ChexError as error:
        assert "\n" not in str(error)


def test_an_overlap_is_noted_only_on_a_split_other_than_the_models(
    synthetic_shards: Path, tiny_model: Model, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = tmp_path / "model"
    shutil.copytree(tiny_model(0), model)
    published(model, synthetic_shards, PATIENT, most=60)
    source = find_shards(synthetic_shards)
    own, lying = read_rows(source.shards, PATIENT), read_rows(source.shards, SHARDS)

    found = evaluate(tmp_path / "own", model, "--data", synthetic_shards)
    assert found["division"] == json.loads(record_split(PATIENT, own).model_dump_json())
    assert found["split_rule"] == "patient"
    assert found["notes"] == []

    # Another split: the overlap is counted in the sample of 60, also for a copy of the shards.
    trained = set(sample_patients(own["train"], 60, 0).filenames.tolist())
    seen = {split: len(trained & set(lying[split].filenames.tolist())) for split in ("test", "validation")}
    assert 0 < seen["test"] < len(lying["test"])
    copy = tmp_path / "copy"
    shutil.copytree(synthetic_shards, copy)
    found = evaluate(tmp_path / "other", model, "--data", copy, "--split-rule", "shards")
    assert found["division"]["rule"] == "shards"  # type: ignore[index]
    counts = {of["split"]: of["trained_images"] for of in found["overlaps"]}  # type: ignore[attr-defined]
    assert counts == seen
    note = f"model was trained on {seen['test']} of the {len(lying['test'])} test images measured here"
    assert any(str(text).startswith(note) for text in found["notes"])  # type: ignore[attr-defined]
    assert "that thresholds and calibration were chosen on" in str(found["notes"])
    assert note.split(" of ")[0] in " ".join(capsys.readouterr().out.split())

    with pytest.raises(SystemExit):
        main(
            [
                "compare",
                *[str(tmp_path / "other")] * 2,
                "--resamples",
                "100",
                "--out",
                str(tmp_path / "compared.json"),
            ]
        )
    (first, _) = json.loads((tmp_path / "compared.json").read_text())["inputs"]
    assert (first["split"], first["division"]["rule"]) == ("test", "shards")
    assert first["overlaps"] == found["overlaps"]
    said = " ".join(capsys.readouterr().out.split())
    assert said.count(f"model was trained on {seen['test']} of the {len(lying['test'])} test images of") == 1


NOTE = "m was trained on 5 of the 9 test images of"
_OVERLAP = {"model": "m", "split": "test", "images": 9, "patients": 7, "trained_images": 5, "trained_patients": 4}
_OLD = Path(__file__).with_name("old_metrics")
EVALUATION = json.dumps(json.loads((_OLD / "evaluation.json").read_text()) | {"overlaps": [_OVERLAP]})
TRAINING = (_OLD / "training.json").read_text()


@pytest.mark.parametrize("metrics", ['{"format": 4, "split": "test", "overlaps": []}', "[not JSON"])
def test_a_comparison_notes_metrics_that_it_cannot_read(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], metrics: str
) -> None:
    (tmp_path / "metrics.json").write_text(metrics)
    predictions = random_predictions(60, 40, names=("Egret", "Heron", "Abnormal"))
    write_predictions(tmp_path / "predictions.parquet", predictions)
    with pytest.raises(SystemExit):
        main(["compare", *[str(tmp_path)] * 2, "--resamples", "100", "--out", str(tmp_path / "compared.json")])
    printed = "".join(capsys.readouterr().out.split())  # lines are wrapped, also within a long path
    assert printed.count("metrics.jsoncannotberead(") == 1
    assert printed.count("):whetheritsmodelsweretrainedontheseimagesisunknown") == 1
    assert "publishedresults" not in printed  # there are none for these labels
    compared = json.loads((tmp_path / "compared.json").read_text())
    assert (compared["format"], compared["inputs"][0]["overlaps"]) == (3, [])


@pytest.mark.parametrize(
    ("metrics", "given", "notes"),
    [
        (EVALUATION, "", 1),
        (EVALUATION, "predictions.parquet", 1),
        (EVALUATION, "other.parquet", 0),
        (TRAINING, "", 0),
        (TRAINING, "predictions.parquet", 0),
        ("[not JSON", "predictions.parquet", 0),
    ],
)
def test_a_comparison_reads_the_metrics_of_its_own_predictions_alone(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], metrics: str, given: str, notes: int
) -> None:
    """A model compared with itself has each note once; a metrics.json of a training run has none."""
    (tmp_path / "metrics.json").write_text(metrics)
    for name in ("predictions.parquet", "other.parquet"):
        write_predictions(tmp_path / name, random_predictions(60, 40))
    with pytest.raises(SystemExit) as ended:
        main(["compare", *[str(tmp_path / given)] * 2, "--resamples", "100"])
    said = capsys.readouterr()
    assert ended.value.code == 0, said.err
    assert " ".join(said.out.split()).count(NOTE) == notes


def test_models_of_different_splits_need_one_to_be_named(synthetic_shards: Path, tmp_path: Path) -> None:
    table = tmp_path / "mine.csv"
    source = find_shards(synthetic_shards)
    everyone = np.unique(np.concatenate([rows.patients for rows in read_rows(source.shards).values()])).tolist()
    table.write_text("patient_id,split\n" + "".join(f"{p},{('train', 'val', 'test')[p % 3]}\n" for p in everyone))
    folders = []
    for name, choice in (("a", PATIENT), ("b", SHARDS), ("c", SplitChoice.parse(str(table))), ("d", None)):
        folders.append(tmp_path / name)
        folders[-1].mkdir()
        if choice is not None:
            published(folders[-1], synthetic_shards, choice)
    a, b, c, d = folders
    assert split_for(["a"], [a], None) == PATIENT
    assert split_for(["d"], [d], None) == SHARDS
    assert split_for(["d", "a"], [d, a], None) == PATIENT
    with pytest.raises(UsageError, match=r"different splits \(a: patient, b: shards\); name one with --split-rule"):
        split_for(["a", "b"], [a, b], None)
    assert split_for(["a", "b"], [a, b], "official").rule == "official"
    with pytest.raises(UsageError, match=r"with the split table mine.csv \(sha256 .*--split-rule mine.csv"):
        split_for(["c"], [c], None)
    assert replace(split_for(["c"], [c], str(table)), table=None).rule == "table"


def test_models_of_different_validation_shares_are_distinguished(synthetic_shards: Path, tmp_path: Path) -> None:
    folders = []
    for name, share in (("a", 0.05), ("b", 0.1), ("c", None)):
        folders.append(tmp_path / name)
        folders[-1].mkdir()
        published(folders[-1], synthetic_shards, PATIENT)
        run = json.loads((folders[-1] / RUN).read_text())
        run["split"] = {"rule": "official", "validation_share": share}
        (folders[-1] / RUN).write_text(json.dumps(run))
    a, b, c = folders
    with pytest.raises(UsageError, match=r"different splits \(a: official, b: official, validation 10 %\); name one"):
        split_for(["a", "b"], [a, b], None)
    assert split_for(["b"], [b], None) == SplitChoice("official", 0.1)
    assert split_for(["c", "a"], [c, a], None) == SplitChoice("official", 0.05)
