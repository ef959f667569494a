"""`chexvision predict`: what it prints and writes."""

from __future__ import annotations

import csv
import json
from collections import Counter
from pathlib import Path

import cv2
import numpy as np
import pyarrow.parquet as pq
import pytest
import torch

from chexvision.labels import NIH
from tests.images.dicoms import dicom
from tests.predict.conftest import Run
from tests.predict.tiny_model import THRESHOLD, publish, with_input_check

BAD = {"07.png": "not a readable PNG, JPEG or DICOM file", "20.png": "truncated PNG"}


def table(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_bad_files_become_rows_with_a_reason_and_the_exit_code_is_1(
    model: Path, images: Path, tmp_path: Path, run: Run
) -> None:
    code, said, error = run("predict", model, images, "--out", tmp_path / "r.csv")
    assert code == 1
    assert error.splitlines()[-1] == "error: 2 of 40 images have no answer"
    assert f"{images}/1/07.png: {BAD['07.png']}" in error
    rows = table(tmp_path / "r.csv")
    assert [row["image"] for row in rows] == [
        f"{number:02}.png" for third in range(3) for number in range(third, 40, 3)
    ]
    assert {row["image"]: row["reason"] for row in rows if row["status"] != "ok"} == BAD
    assert all(not row["probability_Mass"] for row in rows if row["status"] != "ok")
    assert "38 of 40 images" in said
    assert not list(tmp_path.glob("*.partial")) and not list(tmp_path.glob(".r.csv*"))


def test_each_format_carries_probabilities_calls_model_and_calibration(
    model: Path, images: Path, tmp_path: Path, run: Run
) -> None:
    for ending in ("csv", "jsonl", "parquet"):
        assert run("predict", model, images / "0", "--out", tmp_path / f"r.{ending}")[0] == 0
    lines = [json.loads(line) for line in (tmp_path / "r.jsonl").read_text().splitlines()]
    columns = pq.read_table(tmp_path / "r.parquet").to_pylist()
    for line, column, row in zip(lines, columns, table(tmp_path / "r.csv"), strict=True):
        assert line["model"]["model"] == column["model"] == row["model"] == "tiny"
        assert line["model"]["revision"] == column["revision"] == row["revision"] == "tiny-20260101-0000-abcd"
        assert (line["model"]["calibrated"], column["calibrated"], row["calibrated"]) == (True, True, "true")
        assert line["model"]["rule"] == column["thresholds_chosen_by"] == row["thresholds_chosen_by"]
        assert list(line["probabilities"]) == list(NIH.outputs)
        for name, probability in line["probabilities"].items():
            assert column[f"probability_{name}"] == float(row[f"probability_{name}"]) == probability
        assert line["thresholds"]["Mass"] == column["threshold_Mass"] == float(row["threshold_Mass"]) == THRESHOLD
        called = line["probabilities"]["Mass"] >= THRESHOLD
        assert (line["calls"]["Mass"], column["call_Mass"]) == (called, called)
        assert row["call_Mass"] == ("true" if called else "false")
        assert "Hernia" not in line["calls"] and column["call_Hernia"] is None and row["call_Hernia"] == ""
    about = json.loads(pq.read_schema(tmp_path / "r.parquet").metadata[b"chexvision"])
    assert about["model"] == lines[0]["model"]


def test_json_on_stdout_is_what_json_lines_hold(model: Path, images: Path, tmp_path: Path, run: Run) -> None:
    _, said, _ = run("predict", model, images / "0", "--json", "--out", tmp_path / "r.jsonl")
    assert json.loads(said) == [json.loads(line) for line in (tmp_path / "r.jsonl").read_text().splitlines()]


def test_cells_of_a_csv_file_cannot_be_formulas(model: Path, images: Path, tmp_path: Path, run: Run) -> None:
    names = ["=1+1.png", "+a.png", "-a.png", "@SUM(A1).png", "\tb.png", "＝a.png", "plain.png", 'a,"b".png']
    hostile = tmp_path / "hostile"
    hostile.mkdir()
    for name in names:
        (hostile / name).write_bytes((images / "0" / "00.png").read_bytes())
    assert run("predict", model, hostile, "--out", tmp_path / "r.csv")[0] == 0
    shown = {row["image"] for row in table(tmp_path / "r.csv")}
    assert shown == {
        "'=1+1.png", "'+a.png", "'-a.png", "'@SUM(A1).png", "\\tb.png", "'＝a.png", "plain.png", 'a,"b".png'
    }  # fmt: skip


def test_names_with_control_characters_are_escaped_in_every_output(
    model: Path, images: Path, tmp_path: Path, run: Run
) -> None:
    name = tmp_path / "a\x1b[2J\udcff\n.png"
    name.write_bytes((images / "0" / "00.png").read_bytes())
    for ending in ("csv", "jsonl", "parquet"):
        code, said, error = run("predict", model, name, "--out", tmp_path / f"r.{ending}")
        assert code == 0, error
        assert "\x1b" not in said + error
    assert table(tmp_path / "r.csv")[0]["image"] == "a\\x1b[2J\\udcff\\n.png"
    assert json.loads((tmp_path / "r.jsonl").read_text())["image"] == "a\\x1b[2J\\udcff\\n.png"


def test_many_images_are_summarized_and_few_are_shown(model: Path, images: Path, run: Run) -> None:
    code, said, _ = run("predict", model, images / "0", "--json")
    answers = json.loads(said)
    called = Counter(name for answer in answers for name, call in answer["calls"].items() if call)
    code, said, _ = run("predict", model, images / "0")
    assert code == 0
    (mass,) = [line.split() for line in said.splitlines() if line.startswith("Mass")]
    assert int(mass[1]) == called["Mass"]
    assert "images per second" in said
    few = sorted((images / "0").iterdir())[:2]
    code, said, _ = run("predict", model, *few)
    assert all(path.name in said for path in few)
    assert "reaches the model's threshold (f1 on validation)" in said
    assert "model tiny@tiny-20260101-0000-abcd" in said


def test_a_model_of_synthetic_images_says_so_in_every_output(images: Path, tmp_path: Path, run: Run) -> None:
    model = publish(tmp_path / "synthetic", synthetic=True)
    notice = "trained on synthetic images"
    code, said, error = run("predict", model, images / "0" / "00.png", "--out", tmp_path / "r.csv")
    assert code == 0
    assert notice in said and error.startswith("warning: ") and notice in error.splitlines()[0]
    assert table(tmp_path / "r.csv")[0]["trained_on_synthetic_images"] == "true"


def test_a_model_without_a_calibration_says_so(images: Path, tmp_path: Path, run: Run) -> None:
    model = publish(tmp_path / "bare", bare=True)
    code, said, error = run("predict", model, images / "0" / "00.png")
    assert code == 0
    assert "not calibrated" in error and "not calibrated" in said and "*" not in said


@pytest.mark.parametrize(
    ("out", "message"),
    [
        ("r.xlsx", "the name must end in one of .csv, .jsonl, .parquet"),
        ("taken.csv", "exists; name another file, or remove it"),
        ("file/r.csv", "file is not a folder that you may write to"),
    ],
)
def test_an_output_that_cannot_be_written_is_refused_in_one_line(
    model: Path, images: Path, tmp_path: Path, run: Run, out: str, message: str
) -> None:
    (tmp_path / "taken.csv").write_text("mine")
    (tmp_path / "file").write_text("")
    code, said, error = run("predict", model, images, "--out", tmp_path / out)
    assert code in (1, 2) and said == ""
    assert message in error.splitlines()[-1]
    assert (tmp_path / "taken.csv").read_text() == "mine"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "images", "taken.csv"]


def test_overlays_are_written_of_the_images_with_an_answer(
    model: Path, images: Path, tmp_path: Path, run: Run
) -> None:
    bad, good = images / "1" / "07.png", images / "0" / "00.png"
    code, _, error = run("predict", model, bad, good, "--explain", tmp_path / "o")
    assert code == 1
    assert error.splitlines()[-1].startswith(f"error: {bad}: not a readable")
    assert len(list((tmp_path / "o").glob("00-*.png"))) == 3


def test_images_with_warnings_are_answered_with_them_or_refused_where_strict(
    images: Path, tmp_path: Path, run: Run
) -> None:
    model = with_input_check(publish(tmp_path / "checked"))
    black = tmp_path / "black.png"
    cv2.imwrite(str(black), np.zeros((80, 88), np.uint8))
    words = ("predict", model, images / "0" / "00.png", black)
    code, said, _ = run(*words, "--json")
    first, second = json.loads(said)
    assert code == 0
    assert (first["status"], second["status"]) == ("ok", "ok")
    assert second["warnings"] and second["probabilities"]
    assert f"black.png: {second['warnings'][0]}"[:40] in run(*words)[1]

    code, said, error = run(*words, "--json", "--strict")
    refused = json.loads(said)[1]
    assert code == 1
    assert refused["status"] == "refused" and not refused["probabilities"]
    assert refused["reason"] == "; ".join(second["warnings"])
    assert error.splitlines()[-1] == f"error: {black}: {refused['reason']} (1 of 2 images have no answer)"


def test_lateral_dicom_files_are_rows_with_a_reason_and_taken_with_any_view(
    model: Path, tmp_path: Path, run: Run
) -> None:
    path = tmp_path / "lateral.dcm"
    path.write_bytes(dicom(np.random.default_rng(0).integers(0, 4095, (80, 88), np.uint16), ViewPosition="LL"))
    code, said, error = run("predict", model, path, "--json")
    assert code == 1 and "lateral" in json.loads(said)[0]["reason"] and "--any-view" in error
    code, said, _ = run("predict", model, path, "--json", "--any-view")
    (answer,) = json.loads(said)
    assert code == 0 and answer["status"] == "ok" and answer["warnings"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--device", "cuda"), "this machine has no device 'cuda' that torch can use; choose auto or cpu"),
        (("--precision", "fp16"), "precision fp16 needs a GPU"),
        (("--engine", "onnx", "--tta", "flip"), "the engine onnx does not compute test-time augmentation"),
    ],
)
def test_engines_devices_and_precisions_that_do_not_go_together_are_refused(
    model: Path, images: Path, run: Run, words: tuple[str, ...], message: str
) -> None:
    if torch.cuda.is_available():
        pytest.skip("of machines without a GPU")
    code, said, error = run("predict", model, images, *words)
    assert code == 2 and said == "" and message in error
