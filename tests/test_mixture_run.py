"""A model that was trained on a mixture: its records and card, and its use on one of its data sets."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from chexvision.artifact.contents import CARD, HISTORY, METRICS, TRAINING_IMAGES, RunInfo, read_run
from chexvision.artifact.metrics_file import read_metrics
from chexvision.artifact.mixture_records import DataTerms
from chexvision.artifact.published_run import read_published
from chexvision.artifact.recorded_split import split_for, training_data
from chexvision.cli import main
from chexvision.data.rows import read_rows
from chexvision.data.source import find_shards
from chexvision.evaluation.many_runs.measured_on import synthetic_part
from chexvision.evaluation.overlap import TrainingImages
from chexvision.labels import NIH
from chexvision.models.classifier import CheXVision
from chexvision.provenance import Provenance
from chexvision.recipes import load_recipe
from chexvision.report.model_card import render_card
from chexvision.report.study_report import write_study
from chexvision.tracking import tracker
from chexvision.tracking.figures import numbers
from chexvision.training.run import run_training
from chexvision.training.training_session import TrainingProgress
from chexvision_dispatch.studies.results import results_of
from chexvision_dispatch.studies.scheduler import Scheduler
from chexvision_dispatch.studies.sending import Datasets, Destination
from chexvision_dispatch.studies.study_file import read_study
from chexvision_dispatch.studies.study_state import StateFile, state_path
from chexvision_dispatch.view import RunView
from tests.data.mixtures import OTHER, mixed_data, write_other_shards
from tests.dispatch.standin import RECORD
from tests.present import present
from tests.training.runs import TINY

SPLITS = ("validation", "test")
SHORT = (
    "training.phases=[{epochs: 1, lr: 1e-3, min_lr: 1e-5, warmup_epochs: 0, freeze: none}]",
    *("data.max_train_images=40", "data.temperature=2"),
)


@pytest.fixture(scope="module")
def other(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_other_shards(tmp_path_factory.mktemp("other") / "other")


@pytest.fixture(scope="module")
def published(synthetic_shards: Path, other: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("run")
    words = [*TINY, *mixed_data(synthetic_shards, other), *SHORT, "training.track=tensorboard"]
    recipe = load_recipe("scratch", overrides=words)
    provenance = Provenance(run_id="mixed-1", source_revision="0", source_dirty=False)
    progress = TrainingProgress(folder / "work", provenance.run_id)
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(tracker, "CLOSE_SECONDS", 120.0)  # every record arrives, however slow the machine is
        outcome = run_training(recipe, None, folder / "work", provenance, progress, folder / "model")
    assert outcome.finished
    return folder / "model"


@pytest.fixture(scope="module")
def without(synthetic_shards: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model that was trained without the other shards."""
    folder = tmp_path_factory.mktemp("without")
    recipe = load_recipe("scratch", overrides=[*TINY, "data.split=shards", *SHORT[:2]])
    provenance = Provenance(run_id="alone-1", source_revision="0", source_dirty=False)
    progress = TrainingProgress(folder / "work", provenance.run_id)
    run_training(recipe, synthetic_shards, folder / "work", provenance, progress, folder / "model")
    return folder / "model"


def run(capsys: pytest.CaptureFixture[str], *words: object) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as ended:
        main([str(word) for word in words])
    printed = capsys.readouterr()
    return int(ended.value.code or 0), printed.out, printed.err


def test_the_records_name_every_data_set(published: Path, synthetic_shards: Path, other: Path) -> None:
    record, metrics = read_run(published / "run.json"), read_metrics(published / METRICS)
    assert (record.dataset, record.split.rule) == ("shards + other", "mixture")
    first, second = record.datasets
    assert (first.dataset, second.dataset) == (str(synthetic_shards), str(other))
    assert (first.synthetic, second.synthetic) == (True, False)
    assert record.identities == (find_shards(synthetic_shards).identity, find_shards(other).identity)
    assert training_data(published) == frozenset(record.identities)
    assert first.train_images + second.train_images == first.images_per_epoch + second.images_per_epoch
    assert CheXVision.from_pretrained(published).findings == (*NIH.findings, "Fracture")
    assert [part.name for part in metrics.mixture] == ["shards", "other"]
    tests = [part.metrics for part in metrics.mixture]
    assert metrics.metrics.images == sum(of.images for of in tests)
    assert [of.images_sha256 for of in tests] == [of.split.parts["test"].images_sha256 for of in record.datasets]
    assert set(tests[1].findings) == set(OTHER.findings) and "Fracture" not in tests[0].findings
    assert metrics.mixture[1].validation is not None and metrics.published == ()
    assert not metrics.synthetic


def test_the_published_event_files_have_the_figures_of_each_data_set(published: Path, synthetic_shards: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(published / "runs"))
    events.Reload()
    (record,) = json.loads((published / HISTORY).read_text())
    expected = numbers(record)
    assert {"mixture/datasets/shards/images", "mixture/datasets/other/images", "train_loss"} <= expected.keys()
    tracked = {tag: events.Scalars(tag)[-1].value for tag in events.Tags()["scalars"] if tag != "step_loss"}
    assert tracked == pytest.approx(expected)
    recipe = events.Tensors("recipe")[0].tensor_proto.string_val[0].decode()
    assert '"name": "a local file"' in recipe and str(synthetic_shards) not in recipe


def test_a_partly_synthetic_mixture_is_known_as_such_among_runs(published: Path) -> None:
    assert synthetic_part(read_published("mixed", published)) == "partly synthetic"


def test_the_card_shows_data_sets_and_results_of_each(published: Path, synthetic_shards: Path, other: Path) -> None:
    card = (published / CARD).read_text()
    assert "Trained on a mixture of `shards`, `other`" in card
    assert "| shards (synthetic) | shards |" in card and "### Each data set, test" in card
    assert "Temperature of the mixture: 2. " in card
    assert str(synthetic_shards.parent) not in card and str(other.parent) not in card
    results = [line.strip() for line in card.splitlines() if line.strip().startswith("config: ")]
    assert results == [f"config: other, {split}, 32 px" for split in SPLITS]  # the first one has too few cases


def test_the_card_names_data_sets_without_test_images(published: Path) -> None:
    metrics = read_metrics(published / METRICS)
    measured = metrics.model_copy(update={"mixture": metrics.mixture[1:]})
    card = render_card(measured, read_run(published / "run.json"), "mixed")
    assert "Trained on a mixture of `shards`, `other`" in card


def test_the_card_states_terms_and_citations_of_the_data(published: Path) -> None:
    metrics, run = read_metrics(published / METRICS), read_run(published / "run.json")
    terms = DataTerms(title="CheXpert", license_link="https://terms", credentialed=True, citation="Irvin J. 2019.")
    first, second = run.datasets
    known = second.model_copy(update=dict(terms))
    card = render_card(metrics, run.model_copy(update={"datasets": (first, known)}), "mixed")
    assert "CheXpert, https://terms, credentialed |" in card and "Terms of the images" not in card
    assert card.endswith("Common Thorax Diseases. CVPR 2017.\n\nIrvin J. 2019.\n")
    alone = run.model_copy(update={"datasets": (), "terms": terms})
    card = render_card(metrics, alone, "alone")
    assert "Terms of the images: CheXpert, https://terms, credentialed." in card
    assert card.endswith("## Citation\n\nIrvin J. 2019.\n")
    assert RunInfo.model_validate_json(alone.model_dump_json()).terms == terms
    assert "terms" not in run.model_dump_json(exclude={"datasets"})


def test_each_data_set_is_divided_as_the_run_divided_it(published: Path, synthetic_shards: Path) -> None:
    identity = find_shards(synthetic_shards).identity
    assert split_for(["m"], [published], None, identity).rule == "shards"
    assert split_for(["m"], [published], None, "another").rule == "shards"  # as its shards are


def test_training_images_are_found_in_each_data_set(published: Path, synthetic_shards: Path, other: Path) -> None:
    seen = TrainingImages.read(published / TRAINING_IMAGES)
    for folder, most in ((synthetic_shards, 40), (other, 40)):
        source = find_shards(folder)
        rows = read_rows(source.shards, None, source.label_space)
        assert seen.overlap("m", "test", rows["test"], source).trained_images == 0
        found = seen.overlap("m", "train", rows["train"], source)
        assert found.trained_images is not None and 30 <= found.trained_images <= most


def test_one_data_set_is_evaluated_by_the_findings_that_it_labels(
    published: Path, synthetic_shards: Path, other: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for folder, findings in ((other, OTHER.findings), (synthetic_shards, NIH.findings)):
        out = tmp_path / folder.name
        code, printed, err = run(
            *(capsys, "evaluate", published, "--data", folder, "--out", out, "--resamples", "100"),
        )
        assert code == 0, err
        found = read_metrics(out / METRICS)
        assert set(found.metrics.findings) == set(findings)
        rows = [line for line in printed.splitlines() if line.startswith("Fracture ")]
        assert bool(rows) == (folder == other)
        (trained,) = {overlap.trained_images for overlap in found.overlaps if overlap.split == "test"}
        assert trained == 0


def test_a_mixture_of_models_is_measured_on_one_data_set(
    published: Path, other: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    twin = tmp_path / "twin"
    shutil.copytree(published, twin)
    code, _, err = run(capsys, "ensemble", published, twin, "--to", tmp_path / "both")
    assert code == 2 and "was trained on a mixture; name one of its data sets with --data" in err
    code, _, err = run(capsys, "ensemble", published, twin, "--to", tmp_path / "both", "--data", other)
    assert code == 0, err
    metrics = read_metrics(tmp_path / "both" / METRICS)
    assert set(metrics.metrics.findings) == set(OTHER.findings)
    alone = next(part.metrics for part in read_metrics(published / METRICS).mixture if part.name == "other")
    assert np.isclose(metrics.metrics.macro_auroc or 0, alone.macro_auroc or 0)


def test_a_data_set_that_was_left_out_is_measured_under_both_models(
    published: Path,
    without: Path,
    synthetic_shards: Path,
    other: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("mine.yaml").write_text("{recipe: scratch, leave_one_out: data.datasets}")
    study = read_study("mine.yaml", overrides=[*TINY, *mixed_data(synthetic_shards, other), *SHORT])
    assert study.variants == ["base", "without shards", "without other"]
    of = {run.name: tuple(one.name for one in run.recipe.data.named) for run in study.runs}
    state = StateFile(state_path(study.name))
    scheduler = Scheduler(study, Destination("local", {}), Datasets({}, of, ()), state, 1, lambda text: None)
    models = {"base": published, "without other": without}
    for standing in scheduler.standings.values():
        model = models.get(standing.run.name)
        if model is not None:
            record = replace(RECORD, run_id=f"run-{standing.run.name.split()[-1]}", published=str(model))
            standing.view = RunView(record, "complete")
    found = results_of(scheduler, tmp_path / "out")
    missing, left_out = found.left_out
    assert (missing.variant, missing.message) == ("without shards", "a run of the two has no results")
    macro = present(left_out.macro_auroc)
    assert (left_out.dataset, left_out.images, left_out.findings) == (str(other), 60, 2)  # Fracture is not predicted
    assert present(macro.difference.value) == pytest.approx(present(macro.second) - present(macro.first))
    assert macro.difference.interval is not None and macro.p_patients is not None
    write_study(found, tmp_path / "out")
    text = (tmp_path / "out" / "study.md").read_text()
    assert "## Data sets left out" in text and f"| without other | 60 | 2 | {macro.first:.3f} |" in text
    assert "without shards: a run of the two has no results" in text
    monkeypatch.setattr("chexvision.evaluation.evaluate.evaluate", None)
    assert results_of(scheduler, tmp_path / "out").left_out == found.left_out  # read again
