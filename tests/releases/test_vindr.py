"""VinDr-CXR: DICOM files, three readers of each training image, no patients."""

from __future__ import annotations

import csv
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from chexvision.errors import ChexError, UsageError
from chexvision.images.radiograph import decode_grey
from chexvision.labels import UNCERTAIN
from chexvision.releases.release import Reading
from chexvision.releases.vindr import VINDR, VINDR_TERMS, read_vindr
from chexvision.shards.build import build_shards
from chexvision.shards.columns import folder_place
from chexvision.shards.info import describe, lines
from chexvision.shards.verify import verify_shards
from chexvision.synthetic.layouts.films import plan_films
from chexvision.synthetic.layouts.vindr_layout import LABELS, write_vindr
from tests.releases.built import OPTIONS

TRAIN, TEST = "annotations/image_labels_train.csv", "annotations/image_labels_test.csv"
Table = list[dict[str, str]]


@pytest.fixture(scope="module")
def synthetic(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("vindr")
    write_vindr(out, plan_films(24, 3), 64)
    return out


def _release(folder: Path, votes: list[set[str]], *, test: bool = False) -> Path:
    """One image with what each of its readers saw, and another one in the test set."""
    (folder / "annotations").mkdir(parents=True)
    tables = {TRAIN: [("a", f"R{i}", seen) for i, seen in enumerate(votes)], TEST: [("b", "", {"No finding"})]}
    for name, rows in tables.items():
        with (folder / name).open("w", newline="") as file:
            writer = csv.DictWriter(file, ["image_id", *(["rad_id"] if name == TRAIN else []), *LABELS])
            writer.writeheader()
            for image, reader, seen in rows:
                row = {"image_id": image, **({"rad_id": reader} if name == TRAIN else {})}
                writer.writerow(row | {label: str(int(label in seen)) for label in LABELS})
    for image in ("train/a.dicom", "test/b.dicom"):
        (folder / image).parent.mkdir()
        (folder / image).write_bytes(b"")
    return folder


def _labels(folder: Path, votes: list[set[str]]) -> dict[str, float]:
    entry = read_vindr(Reading("vindr", (_release(folder, votes),))).entries["a.dicom"]
    values = VINDR.values(entry.labels, entry.uncertain, entry.unknown)
    return {name: value for name, value in zip(VINDR.findings, values, strict=True) if value != 0}


@pytest.mark.parametrize(
    ("votes", "labels"),
    [
        ([{"Nodule/Mass"}, {"Nodule/Mass", "Edema"}, {"No finding"}], {"Nodule or mass": 1.0}),
        ([{"Pleural effusion"}, {"No finding"}, {"No finding"}], {}),
        ([{"Pleural effusion"}, {"COPD"}, {"No finding"}], {"Effusion": UNCERTAIN, "COPD": UNCERTAIN}),
        ([{"COPD"}, {"COPD"}, {"Pulmonary fibrosis", "COPD"}], {"COPD": 1.0}),
    ],
)  # fmt: skip
def test_a_finding_is_present_where_most_readers_saw_it(
    votes: list[set[str]], labels: dict[str, float], tmp_path: Path
) -> None:
    assert _labels(tmp_path, votes) == labels


def test_images_of_readers_who_saw_nothing_at_all_are_unknown(tmp_path: Path) -> None:
    assert all(np.isnan(value) for value in _labels(tmp_path, [set(), set(), {"No finding"}]).values())


def test_shards_of_a_release(synthetic: Path, tmp_path: Path) -> None:
    manifest = build_shards([synthetic], None, tmp_path / "out", OPTIONS(dataset="vindr", size=32))
    assert manifest.images == 18
    assert all(counts.images == counts.patients for counts in manifest.splits.values())
    assert manifest.split.name == "official" and set(manifest.splits) == {"train", "validation", "test"}
    assert manifest.dataset is not None and manifest.dataset.terms == VINDR_TERMS and VINDR_TERMS.credentialed
    assert "every image counts as a patient of its own" in (tmp_path / "out" / "README.md").read_text()
    assert (
        lines(describe(folder_place(tmp_path / "out")))[-1] == "the patients are not known: every image counts as one"
    )
    assert all(check.ok for check in verify_shards(tmp_path / "out", sample=0, seed=0, workers=1))
    place = folder_place(tmp_path / "out")
    _, table = place.read(manifest.shards[-1].path, ["image", "filename", "view"])
    assert set(table.column("view").to_pylist()) == {"PA"}
    pixels = decode_grey(table.column("image")[0].as_py()["bytes"])
    assert pixels.shape == (32, 32) and pixels.std() > 10


def test_both_monochrome_kinds_look_alike(synthetic: Path) -> None:
    """Every fifth file of the synthetic release is MONOCHROME1: not inverted, its lungs would be white."""
    from chexvision.images.reading import read_radiograph

    reading = read_vindr(Reading("vindr", (synthetic,)))
    files = [found.file for found in reading.index.images if found.file is not None]
    inverted = [path for path in files if b"MONOCHROME1" in path.read_bytes()]
    assert 2 <= len(inverted) < len(files) / 2
    for path in files:
        pixels = read_radiograph(path.read_bytes()).pixels
        assert pixels[24:40, 28:36].mean() > pixels[24:40, 12:20].mean(), path  # the spine is brighter than a lung


def test_patient_split_is_refused(synthetic: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="--split patient: --set vindr does not say which images are of one person"):
        build_shards([synthetic], None, tmp_path / "out", OPTIONS(dataset="vindr", split="patient"))


def _text(name: str, change: Callable[[str], str]) -> Callable[[Path], object]:
    return lambda root: (root / name).write_text(change((root / name).read_text()))


def _swap(name: str, old: str, new: str) -> Callable[[Path], object]:
    return _text(name, lambda text: text.replace(old, new, 1))


def _no_images(root: Path) -> None:
    for path in root.rglob("*.dicom"):
        path.unlink()


def _first_row(line: str) -> Callable[[str], str]:
    """Replace the line below the heads."""
    return lambda text: "\n".join([text.splitlines()[0], line, *text.splitlines()[2:]])


ZEROS = ",".join(["0"] * len(LABELS))
MALFORMED: dict[str, tuple[Callable[[Path], object], str]] = {
    "no table": (lambda root: (root / TRAIN).unlink(), "no image_labels_train.csv in or near"),
    "one table": (lambda root: (root / TEST).unlink(), "VinDr-CXR needs image_labels_test.csv next to"),
    "an empty table": (_text(TRAIN, lambda text: ""), "image_labels_train.csv has no rows"),
    "no rows": (_text(TRAIN, lambda text: text.splitlines()[0]), "image_labels_train.csv has no rows"),
    "a column is missing": (_swap(TEST, "Rib fracture", "Rib"), "no column 'Rib fracture'"),
    "semicolons": (_text(TEST, lambda text: text.replace(",", ";")), "separated by ';'; save it with commas"),
    "not a label": (_swap(TRAIN, ",0", ",2"), "line 2: '2' in column .* is neither 0 nor 1"),
    "a reader twice": (_swap(TRAIN, "R1,", "R0,"), "names a of reader R0 again, first in .*line 2"),
    "an image twice": (_text(TEST, lambda text: text + text.splitlines()[1]), "names b again, first in .*line 2"),
    "in both tables": (_swap(TEST, "b,", "a,"), "image a is in .*train.csv and in .*test.csv"),
    "without a name": (_text(TEST, _first_row(f",{ZEROS}")), "line 2 names no image"),
    "not text": (lambda root: (root / TEST).write_bytes(b"\xff\xfe\x00"), "image_labels_test.csv cannot be read"),
    "no images": (_no_images, "no PNG, JPEG or DICOM file in"),
    "other images": (lambda root: [path.rename(path.with_name("x" + path.name)) for path in root.rglob("*.dicom")],
                     "none of the 2 images of VinDr-CXR is in"),
}  # fmt: skip


@pytest.mark.parametrize("kind", MALFORMED)
def test_malformed_releases_are_one_line_errors(kind: str, tmp_path: Path) -> None:
    root = _release(tmp_path / "vindr", [{"Edema"}, {"Edema"}, {"No finding"}])
    spoil, message = MALFORMED[kind]
    spoil(root)
    with pytest.raises(UsageError, match=message) as caught:
        read_vindr(Reading("vindr", (root,)))
    assert "\n" not in str(caught.value)


DAMAGED = {
    "empty": (b"", "not a readable PNG, JPEG or DICOM file"),
    "cut": (None, "truncated"),
    "a web page": (b"<html>login</html>", "not a readable PNG, JPEG or DICOM file"),
}


@pytest.mark.parametrize("kind", DAMAGED)
def test_damaged_files_are_left_out_and_reported(kind: str, synthetic: Path, tmp_path: Path) -> None:
    data, reason = DAMAGED[kind]
    root = tmp_path / "vindr"
    for path in synthetic.rglob("*.*"):
        (root / path.relative_to(synthetic)).parent.mkdir(parents=True, exist_ok=True)
        (root / path.relative_to(synthetic)).write_bytes(path.read_bytes())
    spoiled = min((root / "train").iterdir())
    spoiled.write_bytes(spoiled.read_bytes()[:3000] if data is None else data)
    with pytest.raises(ChexError, match=f"1 of 18 images are bad.*{spoiled.name}: .*{reason}"):
        build_shards([root], None, tmp_path / "out", OPTIONS(dataset="vindr", max_bad=0.0))
    manifest = build_shards([root], None, tmp_path / "out", OPTIONS(dataset="vindr", max_bad=0.1))
    assert [image.name for image in manifest.bad] == [spoiled.name]


def test_a_reader_who_contradicts_himself_leaves_the_image_out(tmp_path: Path) -> None:
    entry = read_vindr(Reading("vindr", (_release(tmp_path, [{"Edema", "No finding"}] * 3),))).entries["a.dicom"]
    with pytest.raises(ValueError, match="joins 'No Finding' to a finding"):
        VINDR.values(entry.labels, entry.uncertain, entry.unknown)


def test_listed_images_that_are_not_there_are_reported(synthetic: Path, tmp_path: Path) -> None:
    root = _release(tmp_path, [{"Edema"}])
    (root / "train" / "a.dicom").unlink()
    assert read_vindr(Reading("vindr", (root,))).missing == (("a.dicom", "not found, but in image_labels_train.csv"),)
