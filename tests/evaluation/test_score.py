"""Predictions of any system: many spellings are accepted, ambiguous input is named and refused."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from chexvision.errors import UsageError
from chexvision.evaluation.score import score
from chexvision.evaluation.submission import read_submission
from chexvision.labels import NIH
from chexvision.nih.metadata import Entry, read_metadata
from chexvision.predict.answer import Answer, Failure, ModelFacts
from chexvision.predict.result import result_of
from chexvision.predict.result_files import write_results
from tests.evaluation.conftest import METHOD

HEAD = (
    "Image Index,Finding Labels,Follow-up #,Patient ID,Patient Age,Patient Gender,View Position,"
    "OriginalImage[Width,Height],OriginalImagePixelSpacing[x,y]"
)


@pytest.fixture(scope="module")
def labels(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("labels") / "Data_Entry_2017.csv"
    rng = np.random.default_rng(0)
    rows = [HEAD]
    for patient in range(1, 81):
        for visit in range(2):
            there = [finding for finding in NIH.findings[:6] if rng.random() < 0.3]
            text = "|".join(there) or "No Finding"
            rows.append(
                f"{patient:08d}_{visit:03d}.png,{text},{visit},{patient},{30 + patient % 40},M,PA,9,9,0.1,0.1"
            )
    path.write_text("\n".join(rows) + "\n")
    return path


@pytest.fixture
def entries(labels: Path) -> dict[str, Entry]:
    return read_metadata(labels)


def _write(path: Path, entries: dict[str, Entry], heads: list[str], **cells: str) -> Path:
    rng = np.random.default_rng(1)
    rows = [",".join(["Image Index", *heads])]
    for name, entry in entries.items():
        values = [f"{0.4 * (head.split('prob_')[-1] in entry.labels) + 0.5 * rng.random():.4f}" for head in heads]
        rows.append(",".join([name, *values]))
    text = "\n".join(rows) + "\n"
    for old, new in cells.items():
        text = text.replace(old, new, 1)
    path.write_text(text)
    return path


def test_prefixes_paths_and_spellings_are_understood(tmp_path: Path, entries: dict[str, Entry]) -> None:
    heads = ["prob_Atelectasis", "pred Cardiomegaly", "effusion", "p.Pleural Thickening", "Normal/Abnormal", "age"]
    path = tmp_path / "p.csv"
    rows = ["path," + ",".join(heads)] + [f"images_001/images/{name},.1,.2,.3,.4,.5,60" for name in entries]
    path.write_text("\n".join(rows))
    found = read_submission(path, entries)
    assert found.predictions.names == ("Atelectasis", "Cardiomegaly", "Effusion", "Pleural_Thickening", "Abnormal")
    assert found.predictions.probabilities[0].tolist() == [0.1, 0.2, 0.3, 0.4, 0.5]
    assert found.predictions.filenames.tolist() == list(entries)
    assert found.ignored == ("age",)
    assert len(found.missing) == 10
    first = next(iter(entries.values()))
    assert found.predictions.targets[0, -1] == float(first.labels != "No Finding")


def test_missing_findings_are_named_and_left_out(tmp_path: Path, entries: dict[str, Entry]) -> None:
    path = _write(tmp_path / "p.csv", entries, [f"prob_{finding}" for finding in NIH.findings[:13]])
    found = score(path, entries, METHOD)
    assert found.notes == ("no column predicts Hernia: left out of the mean",)
    # The other seven have no positives among these labels.
    assert found.metrics.macro.findings == 6
    assert found.metrics.binary is None
    assert found.metrics.thresholds == "fixed at 0.5"


@pytest.mark.parametrize(
    ("heads", "message"),
    [
        (["prob_Atelectasis", "Atelectasis"], "two columns for Atelectasis: 'prob_Atelectasis' and 'Atelectasis'"),
        (["prob_Atelectasys"], "column 'prob_Atelectasys' is not a finding; did you mean 'Atelectasis'"),
        (["age"], "has no column of a finding"),
    ],
)
def test_bad_columns_are_refused(tmp_path: Path, entries: dict[str, Entry], heads: list[str], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        read_submission(_write(tmp_path / "p.csv", entries, heads), entries)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("00000002_000.png", "00000001_000.png", "line 4: 00000001_000.png is predicted twice"),
        ("00000002_000.png", "99999999_000.png", "line 4: 99999999_000.png is not an image of the labels"),
        ("00000002_000.png,0.", "00000002_000.png,NaN,0.", "line 4: 3 cells, expected 2"),
        ("00000002_000.png,0.", "00000002_000.png,1.", r"outside \[0, 1\]; turn logits into probabilities"),
        ("00000002_000.png,0.", "00000002_000.png,-0.", r"outside \[0, 1\]"),
        ("00000002_000.png,0.", "00000002_000.png,nan#", "is not a probability"),
        ("Image Index", "what", "no column of image names"),
    ],
)
def test_bad_cells_are_named(tmp_path: Path, entries: dict[str, Entry], old: str, new: str, message: str) -> None:
    path = _write(tmp_path / "p.csv", entries, ["prob_Mass"], **{old: new})
    with pytest.raises(UsageError, match=message):
        read_submission(path, entries)


def test_nan_and_blank_cells_are_refused(tmp_path: Path, entries: dict[str, Entry]) -> None:
    path = tmp_path / "p.csv"
    for cell, message in (("nan", "NaN is not a probability"), ("", "'' is not a probability")):
        path.write_text(f"image,Mass\n00000001_000.png,{cell}\n")
        with pytest.raises(UsageError, match=message):
            read_submission(path, entries)


def test_a_split_must_be_predicted_completely(tmp_path: Path, entries: dict[str, Entry]) -> None:
    table = tmp_path / "split.csv"
    table.write_text("patient_id,split\n" + "".join(f"{p},{'test' if p > 40 else 'train'}\n" for p in range(1, 81)))
    path = _write(tmp_path / "p.csv", entries, ["Mass", "Nodule"])
    found = score(path, entries, METHOD, split_rule=str(table))
    assert found.metrics.images == 80
    assert "80 predictions of other images were left out" in found.notes
    lines = [line for line in path.read_text().splitlines() if "00000050_001" not in line]
    path.write_text("\n".join(lines))
    with pytest.raises(
        UsageError, match=r"1 of 80 images of test in split.csv are not predicted, first 00000050_001.png"
    ):
        score(path, entries, METHOD, split_rule=str(table))


@pytest.mark.parametrize(
    ("rule", "message"),
    [
        ("typo", "split 'typo' is not official, chexnet or a table's file such as mine.csv"),
        ("shards", "split 'shards' is not official, chexnet or a table's file such as mine.csv"),
        ("chexnte", "did you mean 'chexnet'"),
        ("./typo", "there is no such file; or name one of official, chexnet"),
    ],
)
def test_only_split_rules_that_need_no_shards_are_suggested(
    tmp_path: Path, entries: dict[str, Entry], rule: str, message: str
) -> None:
    path = _write(tmp_path / "p.csv", entries, ["Mass"])
    with pytest.raises(UsageError, match=message) as error:
        score(path, entries, METHOD, split_rule=rule)
    assert "patient" not in str(error.value)


def test_thresholds_are_chosen_on_other_images(tmp_path: Path, entries: dict[str, Entry]) -> None:
    items = list(entries.items())
    heads = [f"prob_{finding}" for finding in NIH.findings]
    test = _write(tmp_path / "test.csv", dict(items[:80]), heads)
    validation = _write(tmp_path / "validation.csv", dict(items[80:]), heads)
    found = score(test, entries, METHOD, validation=validation, rule="youden", calibration="platt")
    assert found.metrics.thresholds == "youden on validation"
    assert found.metrics.calibration == "platt on validation"
    with pytest.raises(UsageError, match="choose on other patients"):
        score(test, entries, METHOD, validation=test)


def test_the_command_prints_a_table_and_writes_json_without_torch(tmp_path: Path, labels: Path) -> None:
    path = _write(tmp_path / "p.csv", read_metadata(labels), [f"prob_{finding}" for finding in NIH.findings])
    out = tmp_path / "score.json"
    code = (
        "import sys\n"
        "from chexvision.cli import main\n"
        "try:\n    main(sys.argv[1:])\n"
        "finally:\n    assert 'torch' not in sys.modules and 'cv2' not in sys.modules\n"
    )
    arguments = ["score", str(path), "--labels", str(labels), "--resamples", "100", "--out", str(out)]
    done = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "160 images of 80 patients" in done.stdout
    assert "Left out of the mean" in done.stdout
    found = json.loads(out.read_text())
    assert found["systems"][0]["metrics"]["interval"]["resamples"] == 100
    bad = subprocess.run(
        [sys.executable, "-m", "chexvision", "score", str(path), "--labels", str(path)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert bad.returncode == 2
    assert bad.stderr.startswith("error: ")
    assert bad.stderr.count("\n") == 1


@pytest.mark.parametrize("name", ["p.parquet", "p.csv", "p.jsonl", "parts"])
def test_results_of_predict_are_scored_in_every_format(tmp_path: Path, entries: dict[str, Entry], name: str) -> None:
    names = list(entries)
    facts = ModelFacts("m")
    random = np.random.default_rng(2)
    results = [
        result_of(
            Answer(image, dict(zip(NIH.outputs, random.random(15).tolist(), strict=True)), {"Hernia": 0.2}, facts),
            f"images/{image}", facts, "torch", strict=False,
        )
        for image in names[:100]
    ]  # fmt: skip
    results.append(result_of(Failure(names[100], "bad"), f"images/{names[100]}", facts, "torch", strict=False))
    write_results(tmp_path / name, NIH.outputs, results)
    found = read_submission(tmp_path / name, entries)
    assert found.unanswered == 1
    assert (found.missing, found.ignored) == ((), ())
    assert found.predictions.filenames.tolist() == names[:100]
    assert found.predictions.probabilities[7].tolist() == [*results[7].probabilities.values()]
    scored = score(tmp_path / name, entries, METHOD)
    assert "images without an answer, left out: 1" in scored.notes


def test_json_lines_of_something_else_are_refused(tmp_path: Path, entries: dict[str, Entry]) -> None:
    path = tmp_path / "p.jsonl"
    path.write_text('{"image": "a.png"}\n')
    with pytest.raises(UsageError, match=r"p\.jsonl is not a file of chexvision predict: .*required") as refused:
        read_submission(path, entries)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("write", "message"),
    [
        (lambda path: path.write_bytes(b"PAR1 and no more"), "p.parquet cannot be read: "),
        (lambda path: path.mkdir(), "p.parquet holds no Parquet file"),
        (lambda path: None, "there is no file"),
    ],
)
def test_parquet_that_cannot_be_read_is_refused(
    tmp_path: Path, entries: dict[str, Entry], write: Callable[[Path], object], message: str
) -> None:
    write(tmp_path / "p.parquet")
    with pytest.raises(UsageError) as refused:
        read_submission(tmp_path / "p.parquet", entries)
    assert message in str(refused.value)
    assert "\n" not in str(refused.value)
