"""The results of a study of real small runs: paired tests, test-time augmentation, and one ensemble of the seeds."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from chexvision.artifact.contents import METRICS, PROBABILITIES
from chexvision.artifact.ensemble_file import read_ensemble
from chexvision.artifact.metrics_file import read_metrics
from chexvision.artifact.probabilities import Probabilities
from chexvision.evaluation.study_results import StudyMember, StudyResults
from chexvision.inference.stored_predictions import stored_predictions
from chexvision.metrics.compare import compare
from chexvision.metrics.predictions import Predictions
from chexvision.report.study_report import study_table
from chexvision_dispatch.studies.results import _notes, _Results, results_of
from chexvision_dispatch.studies.scheduler import Scheduler
from chexvision_dispatch.studies.seed_ensemble import publish_ensemble
from chexvision_dispatch.studies.sending import Datasets, Destination
from chexvision_dispatch.studies.study_file import StudyRun, read_study
from chexvision_dispatch.studies.study_state import StateFile, state_path
from chexvision_dispatch.view import RunView
from tests.artifact.members import published_members
from tests.dispatch.standin import RECORD
from tests.present import present
from tests.training.runs import TINY

Runs = tuple[Path, list[Path]]


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Runs:
    """Shards, and two models that were trained on them. Read only."""
    folder = tmp_path_factory.mktemp("runs")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CHEXVISION_CACHE", str(folder / "cache"))
        return published_members(folder)


def finished(runs: Runs, variants: str, models: list[Path] | None = None) -> Scheduler:
    """A study of the two models, whose first one is the base; `variants` as in a study file."""
    shards, trained = runs
    Path("mine.yaml").write_text(f"{{recipe: scratch, variants: {variants}}}")
    study = read_study("mine.yaml", overrides=[*TINY, "data.split=shards"])
    data = Datasets({}, {run.name: (str(shards),) for run in study.runs}, ())
    path = state_path(study.name)
    scheduler = Scheduler(study, Destination("local", {}), data, StateFile(path), 1, lambda text: None)
    for standing, model in zip(scheduler.standings.values(), models or trained, strict=True):
        standing.view = RunView(replace(RECORD, run_id=f"run-{model.name}", published=str(model)), "complete")
    return scheduler


OTHER = "{other: {training.seed: 1, data.clahe.enabled: true}}"


def test_variants_are_compared_by_the_predictions_that_their_runs_published(runs: Runs) -> None:
    found = results_of(finished(runs, OTHER), Path("out"))
    base, other = found.variants
    stored = stored_predictions(["base", "other"], runs[1])
    first, second = (of["test"] for of in stored.predictions)
    expected = compare(first, second, present(found.interval)).macro
    difference = present(other.difference)
    assert (difference.first, difference.second) == (expected.first, expected.second)
    assert difference.difference == expected.difference
    assert difference.p_patients == difference.p_patients_holm == expected.p_patients
    assert (base.difference, base.untested, other.untested) == (None, "", "")
    for variant, model in zip(found.variants, runs[1], strict=True):
        assert variant.macro_auroc == pytest.approx(read_metrics(model / METRICS).metrics.macro["auroc"])
        assert variant.members[0].artifact == str(model)
    assert other.changes == ("data.clahe.enabled=true",)
    assert (found.images, found.patients) == (60, 60)


def test_run_without_predictions_is_shown_with_its_interval_and_without_a_test(runs: Runs, tmp_path: Path) -> None:
    older = tmp_path / "older"
    shutil.copytree(runs[1][1], older)
    (older / PROBABILITIES).unlink()
    found = results_of(finished(runs, OTHER, [runs[1][0], older]), Path("out"))
    other = found.variants[1]
    assert other.difference is None
    assert other.untested == f"it was published without {PROBABILITIES}"
    assert other.macro_auroc == read_metrics(older / METRICS).metrics.macro["auroc"]
    assert other.macro_auroc.interval is not None
    assert f"other: no paired test: {other.untested}." in study_table(found).notes


@pytest.mark.parametrize("kind", ["fewer images", "other findings"])
def test_predictions_that_do_not_fit_the_data_are_not_compared(kind: str, runs: Runs, tmp_path: Path) -> None:
    altered = tmp_path / "altered"
    shutil.copytree(runs[1][1], altered)
    stored = Probabilities.read(altered / PROBABILITIES)
    if kind == "fewer images":
        stored = replace(stored, by_split={name: of[1:] for name, of in stored.by_split.items()})
    else:
        findings = ("Another", *stored.label_space.findings[1:])
        stored = replace(stored, label_space=stored.label_space.model_copy(update={"findings": findings}))
    stored.write(altered / PROBABILITIES)
    found = results_of(finished(runs, OTHER, [runs[1][0], altered]), Path("out"))
    assert found.variants[1].difference is None
    expected = {"fewer images": "has no probabilities of these", "other findings": "its run predicts Another"}
    assert expected[kind] in found.variants[1].untested


def test_variant_with_other_labels_is_shown_without_a_test(runs: Runs, monkeypatch: pytest.MonkeyPatch) -> None:
    read = _Results.predictions

    def relabeled(results: _Results, run: StudyRun) -> Predictions:
        made = read(results, run)
        return made if run.variant == "base" else replace(made, targets=1 - made.targets)

    monkeypatch.setattr(_Results, "predictions", relabeled)
    other = results_of(finished(runs, OTHER), Path("out")).variants[1]
    assert other.difference is None
    assert other.untested.startswith("base and other have different labels")


def test_run_without_readable_results_is_shown_with_the_reason(runs: Runs, tmp_path: Path) -> None:
    damaged = tmp_path / "damaged"
    shutil.copytree(runs[1][1], damaged)
    (damaged / METRICS).write_text("{")
    found = results_of(finished(runs, OTHER, [runs[1][0], damaged]), Path("out"))
    assert found.variants[1].macro_auroc.value is None
    assert "no results" in found.variants[1].members[0].message
    assert found.variants[0].macro_auroc.value is not None


def test_variant_that_differs_in_its_evaluation_alone_is_evaluated_once(
    runs: Runs, monkeypatch: pytest.MonkeyPatch
) -> None:
    scheduler = finished(runs, "{flip: {evaluate: {tta: flip}}}", runs[1][:1])
    found = results_of(scheduler, Path("out"))
    base, flip = found.variants
    (folder,) = Path("out/evaluations").iterdir()
    assert folder.name == f"run-{runs[1][0].name}-flip"
    assert json.loads((folder / METRICS).read_text())["systems"][-1]["tta"] == "flip"
    assert flip.members[0].run_id == base.members[0].run_id
    assert (flip.members[0].tta, flip.changes) == ("flip", ("evaluate.tta=flip",))
    assert present(flip.difference).difference.value == pytest.approx(
        present(flip.macro_auroc.value) - present(base.macro_auroc.value)
    )
    monkeypatch.setattr("chexvision.evaluation.evaluate.evaluate", None)
    assert results_of(scheduler, Path("out")) == found
    assert StudyResults.model_validate_json(found.model_dump_json()) == found


def test_seeds_become_one_ensemble_that_is_published_once(runs: Runs, monkeypatch: pytest.MonkeyPatch) -> None:
    scheduler = finished(runs, OTHER)
    published = present(publish_ensemble(scheduler, None, Path("runs/ensemble")))
    info = read_ensemble(Path(published) / "ensemble.json")
    assert [member.run_id for member in info.members] == ["run-0", "run-1"]
    assert StateFile(scheduler.state.path).state.ensemble == published
    monkeypatch.setattr("chexvision.report.ensemble_artifact.assemble_ensemble", None)
    assert publish_ensemble(scheduler, None, Path("runs/ensemble")) == published


def test_no_ensemble_is_made_of_some_of_the_seeds(runs: Runs) -> None:
    scheduler = finished(runs, OTHER)
    standing = list(scheduler.standings.values())[1]
    standing.view = replace(present(standing.view), status="failed")
    assert publish_ensemble(scheduler, Path("ensemble"), Path("other")) is None
    assert not Path("ensemble").exists()


@pytest.mark.parametrize(
    ("sources", "noted"), [(("a", "a"), False), (("a", None), False), (("a", "a with changes"), True)]
)
def test_runs_of_different_sources_are_noted(sources: tuple[str | None, str | None], noted: bool) -> None:
    members = {
        name: (StudyMember(seed=0, run_id=name, status="complete", source=source),)
        for name, source in zip(("base", "other"), sources, strict=True)
    }
    assert bool(_notes(members)) == noted
