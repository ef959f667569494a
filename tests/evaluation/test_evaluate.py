"""Complete evaluations of the smallest models on synthetic shards, by the command line."""

from __future__ import annotations

import csv
import json
import re
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pyarrow.parquet as pq
import pytest
from accelerate import Accelerator

from chexvision.cli import main
from chexvision.data.source import find_shards
from chexvision.errors import UsageError
from chexvision.evaluation.computing import OnThisMachine
from chexvision.evaluation.evaluate import evaluate
from chexvision.evaluation.outcome import Options
from chexvision.inference.ensemble import average, fit_weights
from chexvision.inference.load_predictor import load_predictor
from chexvision.inference.predictions_file import read_predictions, write_predictions
from chexvision.label_maps.label_map import read_label_map
from chexvision.labels import NIH
from chexvision.metrics.operating_points import OperatingPoints, choose_operating_points
from chexvision.metrics.predictions import Predictions
from chexvision.synthetic.synthesize import synthesize
from tests.evaluation.conftest import random_predictions
from tests.present import decoded

Model = Callable[[int], Path]
_FILES = ("predictions.parquet", "predictions/1.parquet", "predictions/2.parquet")


def _run(capsys: pytest.CaptureFixture[str], *words: object) -> tuple[int, str, str]:
    if words[0] == "evaluate":
        words = (*words, "--precision", "fp32")
    with pytest.raises(SystemExit) as ended:
        main([str(word) for word in words])
    said = capsys.readouterr()
    return int(ended.value.code or 0), said.out, said.err


@pytest.fixture(scope="module")
def evaluated(synthetic_shards: Path, tiny_model: Model, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two models with views, individually and as an ensemble."""
    out = tmp_path_factory.mktemp("evaluation") / "out"
    words = ["evaluate", tiny_model(0), tiny_model(1), "--data", synthetic_shards, "--out", out, "--tta", "views"]
    words += ["--weights", "validation", "--resamples", "100", "--precision", "fp32"]
    with pytest.raises(SystemExit) as ended:
        main([str(word) for word in words])
    assert ended.value.code == 0
    return out


def test_singles_views_and_ensembles_are_all_measured(evaluated: Path) -> None:
    found = json.loads((evaluated / "metrics.json").read_text())
    names = [system["name"] for system in found["systems"]]
    assert names == ["model0", "model1", "ensemble of 2", "model0 + views", "model1 + views", "ensemble of 2 + views"]
    assert [system["views"] for system in found["systems"]] == [1, 1, 1, 4, 4, 4]
    assert [system["tta"] for system in found["systems"]] == ["none"] * 3 + ["views"] * 3
    assert sum(found["systems"][2]["weights"]) == pytest.approx(1)
    assert len({system["metrics"]["images_sha256"] for system in found["systems"]}) == 1
    assert len(found["comparisons"]) == 5
    assert found["synthetic"]
    assert found["published"] == []
    for system in found["systems"]:
        assert system["metrics"]["thresholds"] == "f1 on validation"
        assert system["metrics"]["calibration"] == "platt on validation"
    assert found["notes"][0].startswith("model0 has no record of its training images")


def test_the_report_is_self_contained(evaluated: Path) -> None:
    page = (evaluated / "report.html").read_text()
    assert set(re.findall(r"https?://[^'\"\s<]+", page)) <= {"http://www.w3.org/2000/svg"}
    assert not re.search(r"<(script|link)|(src|href)=['\"](?!data:|#)|url\(|@import", page)
    assert "data:image/jpeg;base64," in page
    assert page.count("<section class='card finding'") == 15
    for word in (
        "ROC",
        "Precision-recall",
        "Calibration",
        "Worst mistakes",
        "By sex",
        "These images are synthetic",
    ):
        assert word in page


def test_predictions_contain_names_patients_probabilities_and_targets(
    evaluated: Path, synthetic_shards: Path
) -> None:
    found = read_predictions(evaluated / "predictions.parquet")
    rows = pq.read_table(
        synthetic_shards / "data" / "test-00000-of-00001.parquet", columns=["filename", "patient_id"]
    )
    assert found.names == NIH.outputs
    assert found.filenames.tolist() == rows.column("filename").to_pylist()
    assert found.patients.tolist() == rows.column("patient_id").to_pylist()
    assert ((found.probabilities >= 0) & (found.probabilities <= 1)).all()
    single = [read_predictions(evaluated / "predictions" / f"{n}.parquet") for n in (1, 2, 3)]
    weights = json.loads((evaluated / "metrics.json").read_text())["systems"][2]["weights"]
    together = weights[0] * single[0].probabilities + weights[1] * single[1].probabilities
    np.testing.assert_allclose(single[2].probabilities, together, atol=1e-12)


def test_shards_and_image_files_give_the_same_probabilities(
    evaluated: Path, synthetic_shards: Path, tiny_model: Model, tmp_path: Path
) -> None:
    """Reading shards and reading image files give the same probabilities."""
    table = pq.read_table(synthetic_shards / "data" / "test-00000-of-00001.parquet").slice(0, 5)
    paths = []
    for row in table.to_pylist():
        paths.append(tmp_path / row["filename"])
        paths[-1].write_bytes(row["image"]["bytes"])
    raw = load_predictor(tiny_model(0), device="cpu").predict(paths)
    found = read_predictions(evaluated / "predictions" / "1.parquet")
    for i, one in enumerate(raw):
        np.testing.assert_allclose(found.probabilities[i], [*one.probabilities.values()], atol=2e-5)


def test_compare_reads_the_output_of_evaluate(
    evaluated: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "comparison.json"
    parts = [evaluated / "predictions" / "1.parquet", evaluated / "predictions" / "2.parquet"]
    code, said, _ = _run(capsys, "compare", *parts, "--resamples", "100", "--out", out)
    assert code == 0
    assert "A: 1.parquet; B: 2.parquet" in said
    (found,) = json.loads(out.read_text())["comparisons"]
    before = json.loads((evaluated / "metrics.json").read_text())["comparisons"][0]
    assert found["macro"] == before["macro"]
    code, _, error = _run(capsys, "compare", evaluated)
    assert (code, error) == (2, "error: name two or more results to compare\n")


def test_thresholds_are_not_chosen_on_the_evaluated_split(
    synthetic_shards: Path, tiny_model: Model, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["evaluate", tiny_model(0), "--data", synthetic_shards, "--out", tmp_path / "o", "--resamples", "100"]
    code, _, error = _run(capsys, *words, "--split", "validation")
    assert code == 2
    assert "chosen on validation and cannot be applied to validation" in error
    code, _, error = _run(capsys, *words, "--choose-on", "test")
    assert code == 2
    code, _, error = _run(capsys, *words, "--split", "all")
    assert code == 2 and error.startswith("error: thresholds are chosen on validation, whose images are among all")
    assert not (tmp_path / "o").exists()
    code, _, _ = _run(capsys, *words, "--split", "validation", "--choose-on", "none")
    assert code == 0
    found = json.loads((tmp_path / "o" / "metrics.json").read_text())
    assert found["systems"][0]["metrics"]["thresholds"] == "fixed at 0.5"


def test_without_thresholds_decisions_use_one_half_in_subgroups_too(
    synthetic_shards: Path, tiny_model: Model, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["evaluate", tiny_model(0), "--data", synthetic_shards, "--out", tmp_path / "o", "--resamples", "100"]
    code, _, _ = _run(capsys, *words, "--split", "train", "--choose-on", "none")
    assert code == 0
    found = json.loads((tmp_path / "o" / "metrics.json").read_text())
    groups = [
        group for attribute in found["subgroups"] for group in attribute["groups"] if group["binary_too_few"] is None
    ]
    assert len(groups) >= 2
    for group in groups:
        assert group["recall"] is not None
        assert group["specificity"] is not None


def test_evaluate_and_predict_use_a_models_own_operating_points(
    synthetic_shards: Path, evaluated: Path, tiny_model: Model, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = tmp_path / "published"
    shutil.copytree(tiny_model(0), model)
    words = ["--data", synthetic_shards, "--resamples", "100", "--out", tmp_path / "o", "--choose-on", "model"]
    code, _, error = _run(capsys, "evaluate", model, *words)
    assert code == 2
    assert "was published without thresholds" in error
    for name in ("thresholds.json", "calibration.json"):
        shutil.copy(evaluated / name, model / name)
    code, _, _ = _run(capsys, "evaluate", model, *words)
    assert code == 0
    image = tmp_path / "a.png"
    row = pq.read_table(synthetic_shards / "data" / "test-00000-of-00001.parquet").slice(0, 1).to_pylist()[0]
    image.write_bytes(row["image"]["bytes"])
    raw = load_predictor(tiny_model(0)).predict(image)
    assert raw.calls == {}
    published = load_predictor(model)
    decided, points = published.predict(image), published.points
    assert points.calibration is not None
    assert points.thresholds is not None
    values = np.array([[*raw.probabilities.values()]])
    calibrated = points.calibration.apply(NIH.outputs, values)[0]
    np.testing.assert_allclose([*decided.probabilities.values()], calibrated, atol=1e-12)
    for name, threshold in points.thresholds.known.items():
        assert decided.calls[name] == (calibrated[NIH.outputs.index(name)] >= threshold)
    code, _, error = _run(capsys, "evaluate", model, *words, "--split", "validation")
    assert code == 2
    assert "chosen on the very images" in error


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--split", "tset"], "has no tset images; it has train, validation, test"),
        (["--thresholds", "best"], "unknown threshold rule 'best'"),
        (["--external", "x.csv"], "another set needs all of --external CSV, --images DIR and --label-map MAP"),
        (["--data", "user/name"], "is not pinned"),
    ],
)
def test_invalid_requests_are_one_line_errors_and_write_nothing(
    words: list[str],
    message: str,
    synthetic_shards: Path,
    tiny_model: Model,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    out = tmp_path / "o"
    code, _, error = _run(capsys, "evaluate", tiny_model(0), "--data", synthetic_shards, "--out", out, *words)
    assert code == 2
    assert message in error
    assert error.strip().count("\n") == 0
    assert list(tmp_path.iterdir()) == []


def test_another_folder_is_not_overwritten(
    synthetic_shards: Path, tiny_model: Model, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "mine.txt").write_text("x")
    words = ["--data", synthetic_shards, "--out", tmp_path, "--resamples", "100"]
    code, _, error = _run(capsys, "evaluate", tiny_model(0), *words)
    assert code == 2
    assert "contains something other than an evaluation" in error
    assert (tmp_path / "mine.txt").read_text() == "x"


def test_further_datasets_are_measured_with_what_was_chosen_on_the_first(
    synthetic_shards: Path, tiny_model: Model, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = tmp_path / "other"
    synthesize(other, images=60, seed=8, size=32, encoding="png", shard_bytes=10**8, workers=1, overwrite=False)
    words = ["evaluate", tiny_model(0), tiny_model(1), "--data", synthetic_shards, "--data", other]
    words += ["--out", tmp_path / "o", "--resamples", "100"]
    code, said, error = _run(capsys, *words, "--split", "test", "--split", "all")
    assert code == 0, error
    assert "Macro AUROC by dataset, ensemble of 2" in said and "Models by datasets" in said
    found = json.loads((tmp_path / "o" / "metrics.json").read_text())
    here, there = found["datasets"]
    assert (here["name"], here["split"], there["name"], there["split"]) == ("shards", "test", "other", "all")
    assert here["dataset_identity"] == found["dataset_identity"] != there["dataset_identity"]
    assert [of["name"] for of in there["systems"]] == ["model0", "model1", "ensemble of 2"]
    assert not there["same_images"]
    for system, of in zip(found["systems"], there["systems"], strict=True):
        assert of["metrics"]["images"] == 60 and of["metrics"]["thresholds"] == "f1 on validation"
        thresholds = [
            {name: one["decision"] and one["decision"]["threshold"] for name, one in metrics["findings"].items()}
            for metrics in (system["metrics"], of["metrics"])
        ]
        assert thresholds[0] == thresholds[1]
    files = [read_predictions(tmp_path / "o" / "datasets" / "2" / name) for name in _FILES]
    mean = (files[1].probabilities + files[2].probabilities) / 2
    np.testing.assert_allclose(files[0].probabilities, mean, atol=1e-12)
    names = [
        name
        for path in sorted(other.glob("data/*.parquet"))
        for name in pq.read_table(path, columns=["filename"])["filename"].to_pylist()
    ]
    assert sorted(files[0].filenames.tolist()) == sorted(names)
    assert any(of["dataset"] == "other" and of["split"] == "all" for of in found["overlaps"])
    unknown = "model0 has no record of its training images; its training may have seen the images of other"
    assert unknown in found["notes"]
    code, _, error = _run(capsys, *words, "--split", "test", "--split", "all", "--split", "all")
    assert (code, error) == (2, "error: 3 --split for 2 --data; give it once, or once per --data\n")
    code, _, error = _run(capsys, *words, "--data", other)
    assert code == 2 and "has the same shards as" in error


def test_expert_labels_and_an_external_set_are_reported(
    synthetic_shards: Path, tiny_model: Model, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = pq.read_table(synthetic_shards / "data" / "test-00000-of-00001.parquet").to_pylist()
    expert, external, images = tmp_path / "expert.csv", tmp_path / "external.csv", tmp_path / "images"
    images.mkdir()
    with expert.open("w", newline="") as handle:
        writer = csv.writer(handle)
        writer.writerow(
            ["Image Index", "Patient ID", "Fracture", "Pneumothorax", "Airspace opacity", "Nodule or mass"]
        )
        for i, row in enumerate(rows):
            says = ["YES" if (i + shift) % 3 == 0 else "NO" for shift in range(4)]
            writer.writerow([row["filename"], row["patient_id"], *says])
        writer.writerow(["99999999_000.png", 99999999, "NO", "NO", "NO", "NO"])
    with external.open("w", newline="") as handle:
        writer = csv.writer(handle)
        writer.writerow(["ImageID", "PatientID", "Projection", "Labels"])
        for i, row in enumerate(rows[:16]):
            labels = "['normal']" if i % 2 else "['cardiomegaly', 'mass']" if i % 4 else "['unchanged']"
            writer.writerow([f"x{i}.png", f"p{i // 2}", "PA", labels])
            grey = decoded(row["image"]["bytes"], cv2.IMREAD_GRAYSCALE)
            cv2.imwrite(str(images / f"x{i}.png"), grey.astype(np.uint16) * 257)
    words = ["--data", synthetic_shards, "--resamples", "100", "--out", tmp_path / "o", "--expert", expert]
    words += ["--external", external, "--images", images, "--label-map", "padchest"]
    code, said, _ = _run(capsys, "evaluate", tiny_model(0), *words)
    assert code == 0
    found = json.loads((tmp_path / "o" / "metrics.json").read_text())
    assert found["expert"]["same_images"]
    assert found["expert"]["metrics"]["images"] == len(rows)
    assert set(found["expert"]["agreement"]) == {"Pneumothorax", "Nodule or mass", "Airspace opacity"}
    here, there = found["datasets"]
    assert here["dataset"] == found["dataset"] and here["systems"][0]["metrics"] is None
    assert (there["name"], there["split"], there["same_images"]) == ("PadChest", "all", False)
    seen = [(of["dataset"], of["split"], of["images"], of["patients"]) for of in found["overlaps"]]
    assert seen[-1] == ("PadChest", "all", 16, 8)
    of = there["systems"][0]
    assert of["metrics"]["findings"]["Cardiomegaly"]["unknown"] == 4
    assert of["metrics"]["findings"]["Cardiomegaly"]["positives"] == 4
    assert of["gaps"]["Mass"]["difference"]["value"] is None
    assert of["gaps"]["Mass"]["too_few"].endswith("at least 10 of each are needed")
    elsewhere = read_predictions(tmp_path / "o" / "datasets" / "2" / "predictions.parquet")
    assert elsewhere.filenames.tolist() == [f"x{i}.png" for i in range(16)]
    assert "expert labels (Majkowska et al. 2019)" in said
    assert re.search(r"^PadChest +16 ", said, re.MULTILINE)
    assert "PadChest" in (tmp_path / "o" / "report.html").read_text()
    (images / "x3.png").unlink()
    code, _, error = _run(capsys, "evaluate", tiny_model(0), *words)
    assert code == 2
    assert "1 of the 16 images" in error


@pytest.mark.parametrize("synthetic", [False, True])
def test_an_external_table_of_the_measured_images_is_refused(
    synthetic_shards: Path, tiny_model: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, synthetic: bool
) -> None:
    """Its gap would take the same images for independent ones; of synthetic images only the names are the same."""
    names = pq.read_table(synthetic_shards / "data" / "test-00000-of-00001.parquet").column("filename").to_pylist()
    table = tmp_path / "own.csv"
    table.write_text("ImageID,PatientID,Projection,Labels\n" + "".join(f"{of},1,PA,['mass']\n" for of in names))
    options = Options(external=(table, tmp_path, "padchest", read_label_map("padchest")))
    known = replace(find_shards(synthetic_shards), synthetic=synthetic)
    monkeypatch.setattr(OnThisMachine, "shards", lambda self, reference: known)
    monkeypatch.setattr(OnThisMachine, "rows", lambda *_: pytest.fail("predicted"))
    refused = "own.csv is of test images of .* itself; .* --expert .*own.csv --expert-map padchest"
    with pytest.raises(BaseException, match="predicted" if synthetic else refused):
        evaluate(["m"], [tiny_model(0)], synthetic_shards, options, OnThisMachine(Accelerator(cpu=True)))


def test_the_real_sample_is_evaluated(
    real_data: Path, tiny_model: Model, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from chexvision.shards.build import BuildOptions, build_shards

    shards = tmp_path / "shards"
    options = BuildOptions(
        split="patient", size=32, encoding="png", shard_bytes=10**8, workers=2, seed=0, max_bad=0.0, overwrite=False
    )
    build_shards([real_data / "nih-sample"], real_data / "Data_Entry_2017_v2020.csv.gz", shards, options)
    expert = real_data / "google2019_nih-chest-xray-labels.csv.gz"
    words = ["--data", shards, "--resamples", "100", "--out", tmp_path / "o", "--expert", expert, "--split", "train"]
    code, said, error = _run(capsys, "evaluate", tiny_model(0), *words)
    assert code == 0, error
    found = json.loads((tmp_path / "o" / "metrics.json").read_text())
    assert not found["synthetic"]
    assert found["split_rule"] == "patient"
    assert found["systems"][0]["metrics"]["images"] == 107
    assert found["expert"]["metrics"]["images"] == 3
    assert not any(row["comparable"] for row in found["published"])
    assert "comparable: no, " in said


def test_fitted_weights_prefer_the_better_model() -> None:
    knows = random_predictions(800, 400, 0)
    rng = np.random.default_rng(0)
    guesses = knows.with_probabilities(rng.random(knows.probabilities.shape))
    weights = fit_weights([guesses, knows])
    assert sum(weights) == pytest.approx(1)
    assert weights[1] > 0.85
    alike = fit_weights([knows, knows])
    assert alike == pytest.approx([0.5, 0.5])
    mean = average([guesses, knows], [0.25, 0.75])
    np.testing.assert_allclose(mean.probabilities, 0.25 * guesses.probabilities + 0.75 * knows.probabilities)


def test_predictions_round_trip_through_their_file(tmp_path: Path) -> None:
    predictions = random_predictions(30, 10)
    predictions.targets[3, 4] = np.nan
    write_predictions(tmp_path / "p.parquet", predictions)
    again = read_predictions(tmp_path / "p.parquet")
    for field in ("filenames", "patients", "probabilities", "targets"):
        np.testing.assert_array_equal(getattr(again, field), getattr(predictions, field))
    (tmp_path / "p.parquet").write_bytes(b"no parquet")
    with pytest.raises(UsageError, match="cannot be read as predictions"):
        read_predictions(tmp_path / "p.parquet")


def test_without_calibration_probabilities_are_unchanged() -> None:
    predictions: Predictions = random_predictions(100, 40)
    assert OperatingPoints().calibrate(predictions.names, predictions.probabilities) is predictions.probabilities
    points = choose_operating_points(predictions, "d", "validation", "f1", "none")
    assert points.thresholds is not None
    assert points.thresholds.scale == "raw"
