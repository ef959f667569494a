"""The card contains what the records contain."""

from __future__ import annotations

import json
import math
import re
import xml.etree.ElementTree as ET
from pathlib import Path

import numpy as np
import pytest
from huggingface_hub import ModelCard, ModelCardData

from chexvision.artifact.contents import Hardware, RunInfo, read_run
from chexvision.artifact.metrics_file import CheckResult, Conditions, Evaluation
from chexvision.errors import ChexError
from chexvision.evaluation.protocol import evaluate_trained
from chexvision.hub.reference import RepoRef
from chexvision.labels import NIH
from chexvision.metrics.predictions import Predictions
from chexvision.metrics.subgroups import group_images
from chexvision.provenance import Provenance
from chexvision.recipes import load_recipe
from chexvision.report.card_parts import with_exported
from chexvision.report.charts import curve_sheets
from chexvision.report.model_card import render_card, with_destination
from chexvision.runtime.export_info import ExportedFile, ExportInfo
from chexvision.shards.split_rule import SplitPart, SplitRecord
from tests.evaluation.conftest import random_predictions
from tests.present import present

SHA = "0123456789abcdef0123456789abcdef01234567"
SPLIT = SplitRecord(
    rule="official",
    validation_share=0.05,
    parts={
        "train": SplitPart(images=82_346, patients=26_608, images_sha256="a" * 64),
        "validation": SplitPart(images=400, patients=150, images_sha256="b" * 64),
        "test": SplitPart(images=600, patients=250, images_sha256="c" * 64),
    },
)


def _of_other_patients(predictions: Predictions) -> Predictions:
    names = np.array([f"9{name[1:]}" for name in predictions.filenames.tolist()])
    return Predictions(
        predictions.names, names, predictions.patients + 90_000_000, predictions.probabilities, predictions.targets
    )


EXPORT = ExportInfo(
    version="0.1.0",
    model="chex/model",
    label_space=NIH,
    side=1024,
    image_size=320,
    map_method="Grad-CAM",
    synthetic=False,
    calibration="platt on validation",
    rule="f1 on validation",
    thresholds={},
    sources={},
    files={"onnx/model.onnx": ExportedFile(sha256="0" * 64, bytes=30_600_000, images=32, largest_difference=2e-6)},
)
CONDITIONS = Conditions(
    dataset=f"user/xrays@{SHA}", synthetic=False, split="test", division=SPLIT, image_size=320, epoch=7
)


@pytest.fixture(scope="module")
def metrics() -> Evaluation:
    test = random_predictions(600, 250, 1)
    sex: list[str | None] = ["F" if patient % 2 else "M" for patient in test.patients.tolist()]
    groups = group_images(sex, [50] * 600, ["PA"] * 600, [0] * 600)
    validation = _of_other_patients(random_predictions(400, 150, 0))
    return evaluate_trained("densenet", {"validation": validation, "test": test}, groups, CONDITIONS)[0]


@pytest.fixture(scope="module")
def info() -> RunInfo:
    return RunInfo(
        provenance=Provenance(run_id="densenet-20260101-1432-3f9c", source_revision=SHA, source_dirty=False),
        recipe=load_recipe("densenet"),
        dataset=f"user/xrays@{SHA}",
        dataset_identity=SHA,
        split=SPLIT,
        hardware=Hardware(device="Tesla T4", processes=2, precision="fp16", cpu_count=4, platform="Linux"),
        versions={"torch": "2.6"},
        started_at="2026-01-01T00:00:00+00:00",
        finished_at="2026-01-01T08:00:00+00:00",
        train_seconds=1.0,
    )


def test_every_finding_has_a_row_with_interval_and_threshold(metrics: Evaluation, info: RunInfo) -> None:
    text = render_card(metrics, info, "CheXVision densenet", ["roc.svg"])
    test = metrics.splits["test"]
    section = text[text.index("### Test") : text.index("### Validation")]
    for finding in NIH.findings:
        of = test.findings[finding]
        auroc, (low, high) = present(of["auroc"].value), present(of["auroc"].interval)
        assert of.decision is not None
        ranking, calls = (line for line in section.splitlines() if line.startswith(f"| {finding} |"))
        assert f"{auroc:.3f} ({low:.3f}–{high:.3f})" in ranking
        assert calls.startswith(f"| {finding} | {of.decision.threshold:.3f} |")
    assert "Thresholds: f1 on validation. Calibration: platt on validation." in section
    assert "600 images of" in section
    assert "bootstrap over patients, 1,000 resamples" in section


def test_validation_metrics_use_no_thresholds_or_calibration_chosen_on_it(metrics: Evaluation, info: RunInfo) -> None:
    text = render_card(metrics, info, "CheXVision densenet")
    section = text[text.index("### Validation") :]
    assert "Thresholds: fixed at 0.5. Calibration: none." in section


def test_subgroups_literature_and_charts_are_there(metrics: Evaluation, info: RunInfo) -> None:
    text = render_card(metrics, info, "CheXVision densenet", ["roc.svg"])
    assert "### Subgroups of test" in text
    assert "| sex | images |" in text and "\n| F | " in text
    assert "CheXNet" in text
    assert "no, its split was not published" in text
    assert "](figures/roc.svg)" in text


def test_tables_fit_the_page_of_the_hub(metrics: Evaluation, info: RunInfo) -> None:
    """A page is 700 to 800 pixels wide: 8 for a character, 27 beside those of a cell. Sentences wrap."""
    text = render_card(metrics, info, "CheXVision densenet", ["roc.svg"]).partition("## Use")[0]
    tables = [block.splitlines() for block in re.findall(r"(?:^\|.*\n)+", text, re.MULTILINE)]
    assert len(tables) > 6
    for head, _, *rows in tables:
        if "comparable" in head:
            continue
        names = [max(name.split(), key=len, default="") for name in head.strip("|").split("|")]
        columns = zip(names, *(row.strip("|").split("|") for row in rows), strict=True)
        assert sum(8 * max(len(cell.strip(" *")) for cell in cells) + 27 for cells in columns) <= 760, head


def test_figures_have_captions(metrics: Evaluation, info: RunInfo) -> None:
    names = ["calibration.svg", "overlay.jpg", "precision-recall.svg", "roc.svg"]
    text = render_card(metrics, info, "CheXVision densenet", names)
    for name in names:
        assert re.search(rf"^!\[[^]]+\]\(figures/{re.escape(name)}\)\n\n\*.{{40,}}\*$", text, re.MULTILINE)
    assert text.index("### Curves") < text.index("figures/roc.svg") < text.index("### Maps")
    assert text.index("### Maps") < text.index("figures/overlay.jpg")


def test_a_card_says_why_it_shows_no_radiograph(metrics: Evaluation, info: RunInfo) -> None:
    why = "Radiographs are images of patients"
    assert why in render_card(metrics, info, "CheXVision densenet")
    assert why not in render_card(metrics.model_copy(update={"synthetic": True}), info, "CheXVision densenet")


def test_files_of_the_input_check_and_of_an_export_are_listed(metrics: Evaluation, info: RunInfo) -> None:
    def card(check: CheckResult | None = None, exported: ExportInfo | None = None) -> str:
        measured = metrics.model_copy(update={"input_check": check})
        return render_card(measured, info, "CheXVision densenet", exported=exported)

    checked = card(CheckResult(images=400, patients=150, flagged=4, test_images=600, test_flagged=9))
    assert "| input check | input_check.npz: features" in checked
    assert "It flags 4 of the 400 validation images that it was fitted on and 9 of 600 test images;" in checked
    assert "| input check | none: the model answers for any image" in card()
    later = with_exported(card(), EXPORT)
    assert later == card(exported=EXPORT)
    assert with_exported(later, EXPORT) == later
    assert "| onnx/model.onnx | 30.6 MB | 32 | 2.0e-06 |" in later
    assert "None. `chexvision export` makes" in card() and "None. `chexvision export`" not in later
    earlier = re.sub(r"## Exported files\n.*?(?=## Limits)", "", card(), flags=re.DOTALL)
    assert "| onnx/model.onnx |" in with_exported(earlier, EXPORT)
    assert with_exported("# A card by hand\n", EXPORT) == "# A card by hand\n"


def test_the_hub_client_parses_the_results(metrics: Evaluation, info: RunInfo) -> None:
    data = ModelCard(render_card(metrics, info, "CheXVision densenet")).data
    assert isinstance(data, ModelCardData)
    results = present(data.eval_results)
    found = {(result.dataset_split, result.metric_name): result.metric_value for result in results}
    assert len(found) == 10
    for split in ("validation", "test"):
        of = metrics.splits[split]
        assert found[split, "Macro AUROC"] == pytest.approx(of.macro_auroc, abs=1e-4)
        assert found[split, "Macro F1"] == pytest.approx(of.macro["f1"].value, abs=1e-4)
    assert {result.dataset_revision for result in results} == {SHA}


def test_commands_name_the_repository_that_it_is_published_to(metrics: Evaluation, info: RunInfo) -> None:
    to = RepoRef("chex/model")
    text = render_card(metrics, info, "CheXVision densenet", to=to)
    assert "USER" not in text
    assert f"chexvision predict chex/model@{info.provenance.run_id} chest.png" in text
    assert f'from_pretrained("chex/model", revision="{info.provenance.run_id}")' in text


@pytest.mark.parametrize("to", [None, Path("/home/alice/model")])
def test_without_a_repository_commands_name_the_cards_own_folder(
    to: Path | None, metrics: Evaluation, info: RunInfo
) -> None:
    text = render_card(metrics, info, "CheXVision densenet", to=to)
    assert "chexvision predict . chest.png" in text
    assert 'from_pretrained(".")' in text
    assert "/home/alice" not in text
    assert "USER" not in text


@pytest.mark.parametrize("before", [None, RepoRef("other/model")])
def test_a_card_published_later_equals_one_made_with_a_known_repository(
    before: RepoRef | None, metrics: Evaluation, info: RunInfo
) -> None:
    to, run_id = RepoRef("chex/model"), info.provenance.run_id
    card = render_card(metrics, info, "CheXVision densenet", ["roc.svg"], to=before)
    known = render_card(metrics, info, "CheXVision densenet", ["roc.svg"], to=to)
    assert with_destination(card, to, run_id) == known
    assert with_destination(known, to, run_id) == known
    assert with_destination("# A card by hand\n", to, run_id) == "# A card by hand\n"


def test_a_local_dataset_is_named_without_its_path(metrics: Evaluation, info: RunInfo) -> None:
    folder = "/kaggle/working/alice/shards"
    text = render_card(
        metrics.model_copy(update={"dataset": folder}), info.model_copy(update={"dataset": folder}), "CheXVision"
    )
    assert "/kaggle" not in text
    assert f"a local folder `shards` (identity `{SHA}`)" in text


def test_calibration_under_other_prevalences_and_references_are_there(metrics: Evaluation, info: RunInfo) -> None:
    text = render_card(metrics, info, "CheXVision densenet")
    assert "times that on validation, where probabilities were calibrated" in text
    assert "corrected for the prevalence among the labels here" in text
    assert re.search(r"^- .*: .* https://github.com/arnoweng/CheXNet$", text, re.MULTILINE)
    assert "p = " in text


def test_untrusted_text_is_escaped(metrics: Evaluation, info: RunInfo) -> None:
    hostile = "<img src=x>|[a](javascript:x)`"
    split = info.split.model_copy(update={"rule": "table", "table": hostile, "table_sha256": "d" * 64})
    run = info.model_copy(update={"versions": {"torch": hostile}, "dataset_identity": hostile, "split": split})
    text = render_card(metrics.model_copy(update={"dataset": hostile, "division": split}), run, "CheXVision")
    assert not re.search(r"(?<!\\)(<img|\[a\]|\|`)", re.sub(r"``.*?``", "", text.split("---\n", 2)[2]))


def test_too_few_cases_are_reported(info: RunInfo) -> None:
    validation, test = _of_other_patients(random_predictions(200, 80, 0)), random_predictions(200, 80, 1)
    test.targets[:, test.column("Hernia")] = 0
    test.targets[:3, test.column("Hernia")] = 1
    metrics, _ = evaluate_trained("densenet", {"validation": validation, "test": test}, None, CONDITIONS)
    text = render_card(metrics, info, "CheXVision densenet")
    row = next(line for line in text.splitlines() if line.startswith("| Hernia |"))
    assert "| too few |" in row
    assert "Left out of the mean, too few cases (fewer than 10 patients with or without it): " in text


def test_charts_are_self_contained_files() -> None:
    test = random_predictions(600, 250, 1)
    validation = _of_other_patients(random_predictions(400, 150, 0))
    metrics, points = evaluate_trained("densenet", {"validation": validation, "test": test}, None, CONDITIONS)
    figures = curve_sheets(test, points, metrics.metrics)
    assert sorted(figures) == ["calibration.svg", "precision-recall.svg", "roc.svg"]
    for text in figures.values():
        root = ET.fromstring(text)
        assert len(root.findall("{http://www.w3.org/2000/svg}svg")) == 15


def test_a_run_without_test_images_still_gets_operating_points() -> None:
    found, points = evaluate_trained("densenet", {"validation": random_predictions(200, 80)}, None, CONDITIONS)
    assert list(found.splits) == ["validation"]
    assert found.metrics.thresholds == "fixed at 0.5"
    assert points.thresholds is not None
    assert found.subgroups == ()


def test_the_split_is_described_with_its_images(metrics: Evaluation, info: RunInfo) -> None:
    text = render_card(metrics, info, "CheXVision densenet")
    assert re.search(
        r"Split: the release's official test list[,;] validation (is )?5 % of the other patients\. ", text
    )
    assert "validation and test are of patients that training has not seen" in text
    assert f"| train | 82,346 | 26,608 | {'a' * 12}… |" in text
    assert "patients, split: official, 320 px" in text
    assert "were used" not in text
    smoke = load_recipe("densenet", preset="smoke")
    text = render_card(metrics, info.model_copy(update={"recipe": smoke}), "CheXVision densenet")
    assert "Of train, complete patients with at most 1,024 images were used." in text


def test_weights_epoch_and_patients_are_described(metrics: Evaluation, info: RunInfo) -> None:
    def text(*overrides: str) -> str:
        recipe = load_recipe("densenet", overrides=["training.keep_within=0", *overrides])
        return render_card(metrics, info.model_copy(update={"recipe": recipe}), "CheXVision densenet")

    assert "trained from ImageNet weights: 14 findings" in text("model.weights=imagenet")
    assert "trained from random weights: 14 findings" in text("model.weights=none")
    assert f"from the weights `a/b@{SHA}:c.safetensors`: 14" in text(f"model.weights=a/b@{SHA}:c.safetensors")
    assert "from the weights `c.safetensors`: 14" in text("model.weights=/home/alice/c.safetensors")
    assert "the best by macro AUROC on validation." in text()
    assert "the best by loss on validation." in text("training.monitor=loss")
    late = "the latest whose macro AUROC on validation is within one standard error of the best."
    assert late in text("training.keep_within=1")
    assert "Of train, 10 % of the patients were used, a seeded sample." in text("data.train_fraction=0.1")


@pytest.mark.parametrize("table", [None, "/home/me/mine.csv"])
def test_records_of_an_earlier_version_are_read(info: RunInfo, tmp_path: Path, table: str | None) -> None:
    old = json.loads(info.model_dump_json())
    for name in ("split", "validation_share"):
        del old["recipe"]["data"][name]
    old["recipe"]["data"]["split_table"] = table
    del old["split"]
    old["split_table_sha256"] = table and "d" * 64
    (tmp_path / "run.json").write_text(json.dumps(old))
    read = read_run(tmp_path / "run.json")
    expected = ("shards", None, None) if table is None else ("table", "mine.csv", "d" * 64)
    assert (read.split.rule, read.split.table, read.split.table_sha256) == expected
    assert read.recipe.training == info.recipe.training
    (tmp_path / "run.json").write_text(info.model_dump_json())
    assert read_run(tmp_path / "run.json") == info


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"recipe": 3}', "[" * 100_000, "null"])
def test_an_invalid_record_is_reported_in_one_line(tmp_path: Path, text: str) -> None:
    (tmp_path / "run.json").write_text(text)
    with pytest.raises(ChexError, match="is not a run's record") as error:
        read_run(tmp_path / "run.json")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("changed", "problem"),
    [
        ({"validation_share": math.nan}, "validation_share"),
        ({"validation_share": math.inf}, "validation_share"),
        ({"validation_share": -3}, "validation_share"),
        ({"validation_share": 0}, "validation_share"),
        ({"validation_share": 1}, "validation_share"),
        ({"rule": "table", "table": "mine.csv"}, "rule table needs table and table_sha256"),
        ({"rule": "table", "table_sha256": "d" * 64}, "rule table needs table and table_sha256"),
    ],
)
def test_an_invalid_split_is_refused(info: RunInfo, tmp_path: Path, changed: dict[str, object], problem: str) -> None:
    run = json.loads(info.model_dump_json())
    run["split"] |= changed
    (tmp_path / "run.json").write_text(json.dumps(run))
    with pytest.raises(ChexError, match=f"is not a run's record: .*{problem}"):
        read_run(tmp_path / "run.json")


def test_a_record_that_is_not_a_small_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ChexError, match="No such file"):
        read_run(tmp_path / "run.json")
    with (tmp_path / "run.json").open("wb") as file:
        file.truncate(2**24 + 1)
    with pytest.raises(ChexError, match="more than 16 MiB"):
        read_run(tmp_path / "run.json")
