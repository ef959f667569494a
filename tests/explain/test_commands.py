"""The commands `explain`, `audit` and `predict --explain`."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from chexvision.cli import main
from chexvision.data.rows import read_rows, record_split
from chexvision.data.source import find_shards
from chexvision.labels import NIH
from chexvision.shards.push import push_shards
from chexvision.shards.split_rule import SplitChoice
from chexvision.synthetic.synthesize import synthesize
from tests.evaluation.trained_model import published
from tests.fakes.fixtures import hub_here
from tests.fakes.hub import FakeHub


def chexvision(*words: object) -> int:
    """Run the command line and return its exit code."""
    with pytest.raises(SystemExit) as exit_:
        main([str(word) for word in words])
    return int(exit_.value.code or 0)


@pytest.fixture
def radiograph(tmp_path: Path) -> Path:
    """An image twice as high as wide."""
    path = tmp_path / "00000001_000.png"
    cv2.imwrite(str(path), np.random.default_rng(0).integers(0, 255, (200, 100), dtype=np.uint8))
    return path


@pytest.fixture(scope="session")
def synthetic(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("synthetic") / "shards"
    synthesize(folder, images=60, seed=4, size=96, encoding="png", shard_bytes=2**28, workers=2, overwrite=False)
    return folder


def test_explain_shows_the_most_probable_findings_in_the_aspect_ratio_of_the_image(
    model_folder: Path, radiograph: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    assert chexvision("explain", model_folder, radiograph, "--out", out, "--top", 2) == 0
    summary = json.loads((out / "explain.json").read_text())
    assert (summary["format"], summary["model"]["model"]) == (2, model_folder.name)
    (explained,) = summary["images"]
    shown = explained["overlays"]
    assert chexvision("predict", model_folder, radiograph, "--json") == 0
    lines = capsys.readouterr().out.splitlines()
    predicted = json.loads("\n".join(lines[lines.index("[") :]))[0]["probabilities"]
    del predicted["Abnormal"]
    best = sorted(predicted, key=predicted.__getitem__, reverse=True)[:2]
    assert [one["finding"] for one in shown] == best
    assert explained["scale"] == max(one["largest"] for one in shown) > 0
    assert [one["probability"] for one in shown] == pytest.approx([predicted[name] for name in best])
    assert {path.name for path in out.iterdir()} == {"explain.json", *(f"00000001_000-{name}.png" for name in best)}
    with Image.open(out / shown[0]["overlay"]) as overlay:
        pixels = np.asarray(overlay.convert("RGB")).astype(int)
    # Left of the middle the image is grey, 320 wide and 640 high; right of it there is colour.
    left, right = (pixels[76:716, x : x + 320] for x in (16, 352))
    assert np.array_equal(left[..., 0], left[..., 2]) and left.std() > 5
    assert bool((abs(right[..., 0] - right[..., 2]) > 20).any())
    x, y = shown[0]["peak"]
    assert 0 <= x < 100 and 0 <= y < 200


def test_explain_takes_findings_by_name_and_normal_abnormal(
    model_folder: Path, radiograph: Path, tmp_path: Path
) -> None:
    words = ("--finding", "hernia", "--finding", "Abnormal", "--finding", "Hernia")
    assert chexvision("explain", model_folder, radiograph, "--out", tmp_path / "out", *words) == 0
    (explained,) = json.loads((tmp_path / "out" / "explain.json").read_text())["images"]
    assert [one["finding"] for one in explained["overlays"]] == ["Hernia", "Abnormal"]


def test_contours_cover_less_of_the_image(model_folder: Path, radiograph: Path, tmp_path: Path) -> None:
    words = ("explain", model_folder, radiograph, "--top", 1, "--out")
    assert chexvision(*words, tmp_path / "areas") == 0
    assert chexvision(*words, tmp_path / "lines", "--contours") == 0
    summaries = [(tmp_path / name / "explain.json").read_text() for name in ("areas", "lines")]
    assert summaries[0] == summaries[1]
    overlay = json.loads(summaries[0])["images"][0]["overlays"][0]["overlay"]
    colored = {}
    for name in ("areas", "lines"):
        with Image.open(tmp_path / name / overlay) as image:
            mapped = np.asarray(image.convert("RGB")).astype(int)[76:716, 352:672]
        colored[name] = int((np.ptp(mapped, axis=2) > 0).sum())
    assert 0 < colored["lines"] < colored["areas"] / 2


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--finding", "Efusion"), "'Efusion' is not a finding of this model; did you mean Effusion?"),
        (("--finding", "xyz"), "known are Atelectasis"),
        (("--top", "0"), "--top 0 is not possible; the model has 14 findings"),
        (("--top", "15"), "--top 15 is not possible"),
        (("--top", "3", "--finding", "Mass"), "exclude each other"),
        (("--layers", "1", "--contours"), "--contours is of maps of findings"),
    ],
)
def test_invalid_requests_report_one_line_and_write_nothing(
    model_folder: Path,
    radiograph: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    words: tuple[str, ...],
    message: str,
) -> None:
    assert chexvision("explain", model_folder, radiograph, "--out", tmp_path / "out", *words) == 2
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_duplicate_names_and_files_that_are_not_images_are_refused(
    model_folder: Path, radiograph: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = tmp_path / "other" / radiograph.name
    other.parent.mkdir()
    other.write_bytes(radiograph.read_bytes())
    text = tmp_path / "text.png"
    text.write_text("not an image")
    for images, message in (
        ((radiograph, other), "share their overlays' names"),
        ((radiograph, text), "text.png: not a"),
    ):
        assert chexvision("explain", model_folder, *images, "--out", tmp_path / "out") == 2
        assert message in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_predict_explains_the_three_most_probable_findings(
    model_folder: Path, radiograph: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert chexvision("predict", model_folder, radiograph, "--json", "--explain", tmp_path / "out") == 0
    predicted = json.loads(capsys.readouterr().out)[0]["probabilities"]
    del predicted["Abnormal"]
    best = sorted(predicted, key=predicted.__getitem__, reverse=True)[:3]
    (explained,) = json.loads((tmp_path / "out" / "explain.json").read_text())["images"]
    assert [one["finding"] for one in explained["overlays"]] == best


def test_real_radiographs_are_explained(model_folder: Path, real_data: Path, tmp_path: Path) -> None:
    images = sorted((real_data / "nih-sample").rglob("*.png"))[:2]
    assert chexvision("explain", model_folder, *images, "--out", tmp_path, "--finding", "Effusion") == 0
    with Image.open(tmp_path / f"{images[0].stem}-Effusion.png") as overlay:
        assert overlay.width == 2 * 640 + 48


def test_synthetic_shards_are_audited_with_the_boxes_next_to_them(
    model_folder: Path, synthetic: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    words = ("audit", model_folder, "--data", synthetic, "--split", "all", "--out", out, "--resamples", 200)
    assert chexvision(*words) == 0
    audit = json.loads((out / "audit.json").read_text())
    with (synthetic / "boxes.csv").open(newline="") as file:
        boxed = {(row[0], row[1]) for row in csv.reader(file)} - {("Image Index", "Finding Label")}
    assert {(case["image"], case["finding"]) for case in audit["cases"]} == boxed
    for name, of in audit["findings"].items():
        cases = [case for case in audit["cases"] if case["finding"] == name]
        assert of["cases"] == len(cases)
        assert of["pointing"]["value"] == pytest.approx(np.mean([case["pointing"] for case in cases]))
        assert of["iou"]["value"] == pytest.approx(np.mean([case["iou"] for case in cases]))
        low, high = of["energy"]["interval"]
        assert low <= of["energy"]["value"] <= high
    assert list(audit["findings"]) == [name for name in NIH.findings if name in audit["findings"]]
    assert audit["overall"]["outside"]["random"] == pytest.approx(0.35, abs=0.01)
    assert "Maps compared with the boxes" in capsys.readouterr().out
    with Image.open(out / "audit.png") as sheet:
        assert sheet.width == 4 * 256 + 16
    first = (out / "audit.json").read_bytes(), (out / "audit.png").read_bytes()
    assert chexvision(*words) == 0
    assert ((out / "audit.json").read_bytes(), (out / "audit.png").read_bytes()) == first


def test_an_audit_uses_the_split_that_the_model_was_trained_with(
    model_folder: Path, synthetic: Path, tmp_path: Path
) -> None:
    own = SplitChoice("patient")
    rows = {
        split: read_rows(find_shards(synthetic).shards, SplitChoice.parse(split)) for split in ("patient", "shards")
    }
    model = tmp_path / "model"
    shutil.copytree(model_folder, model)
    published(model, synthetic, own)
    audited = {}
    for split, words in (("patient", ()), ("shards", ("--split-rule", "shards"))):
        out = tmp_path / split
        assert chexvision("audit", model, "--data", synthetic, "--out", out, "--resamples", 200, *words) == 0
        audit = json.loads((out / "audit.json").read_text())
        assert audit["conditions"]["images"] == f"{synthetic.resolve()}, test by {split}"
        division = record_split(SplitChoice.parse(split), rows[split])
        assert audit["conditions"]["division"] == json.loads(division.model_dump_json())
        audited[split] = {case["image"] for case in audit["cases"]}
        assert audited[split] and audited[split] <= set(rows[split]["test"].filenames.tolist())
    assert audited["patient"] != audited["shards"]


def test_boxes_of_synthetic_shards_on_the_hub_are_used(model_folder: Path, synthetic: Path, tmp_path: Path) -> None:
    with hub_here(tmp_path / "hub", FakeHub):
        pushed = push_shards(synthetic, "chex/synthetic", private=False)
        words = ("--split", "all", "--resamples", 200)
        assert chexvision("audit", model_folder, "--data", pushed, "--out", tmp_path / "hub-data", *words) == 0
    assert chexvision("audit", model_folder, "--data", synthetic, "--out", tmp_path / "folder", *words) == 0
    there, here = (json.loads((tmp_path / name / "audit.json").read_text()) for name in ("hub-data", "folder"))
    assert there["cases"] == here["cases"]
    assert there["conditions"]["images"] == f"{pushed}, all"
    assert there["conditions"]["division"] is None


def test_a_local_box_list_downloads_nothing_from_the_hub(
    model_folder: Path, synthetic: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with hub_here(tmp_path / "hub", FakeHub) as hub:
        pushed = push_shards(synthetic, "chex/synthetic", private=False)
        find_shards(pushed)
        asked = len(hub.requests)
        words = ("--split", "all", "--resamples", 200, "--boxes", synthetic / "boxes.csv", "--box-side", 96)
        assert chexvision("audit", model_folder, "--data", pushed, "--out", tmp_path / "out", *words) == 0
        assert not any("boxes.csv" in request.path for request in hub.requests[asked:])


def test_real_radiographs_are_audited_with_the_releases_boxes(
    model_folder: Path, real_data: Path, tmp_path: Path
) -> None:
    words = ("--images", real_data / "nih64", "--boxes", real_data / "BBox_List_2017.csv.gz", "--out", tmp_path)
    assert chexvision("audit", model_folder, *words) == 0
    audit = json.loads((tmp_path / "audit.json").read_text())
    assert {name: of["cases"] for name, of in audit["findings"].items()} == {
        "Atelectasis": 5,
        "Infiltration": 2,
        "Pneumonia": 2,
    }
    assert (audit["overall"]["cases"], audit["overall"]["patients"]) == (
        9,
        len({c["image"][:8] for c in audit["cases"]}),
    )


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ((), "--images or shards with --data"),
        (("--data", "SHARDS", "--images", "SHARDS"), "one of the two"),
        (("--data", "SHARDS", "--split", "tset"), "--split 'tset' is not a split"),
        (("--data", "SHARDS", "--box-side", "40"), "beyond an image of 40x40"),
        (("--images", "SHARDS"), "name a list such as BBox_List_2017.csv with --boxes"),
        (("--images", "SHARDS", "--boxes", "SHARDS/boxes.csv"), "no PNG, JPEG or DICOM file in"),
    ],
)
def test_invalid_audits_report_one_line_and_write_nothing(
    model_folder: Path,
    synthetic: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    words: tuple[str, ...],
    message: str,
) -> None:
    named = [word.replace("SHARDS", str(synthetic)) for word in words]
    assert chexvision("audit", model_folder, "--out", tmp_path / "out", *named) == 2
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1
    assert not (tmp_path / "out").exists()
