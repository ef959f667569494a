"""What a study's runs reached: their metrics, and paired tests of their test predictions where there are any."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from statistics import mean
from typing import TYPE_CHECKING

from chexvision import __version__
from chexvision.artifact.contents import METRICS, PROBABILITIES, RUN, read_run
from chexvision.artifact.metrics_file import Evaluation as Measured
from chexvision.artifact.metrics_file import read_metrics
from chexvision.config.data_config import SPLIT_RULES
from chexvision.errors import ChexError
from chexvision.evaluation.study_results import LeftOut, StudyMember, StudyResults, StudyVariant
from chexvision.hub.reference import Reference, parse_reference
from chexvision.hub.repo_files import model_file
from chexvision.metrics.records import UNDEFINED, Difference, Estimate, IntervalMethod
from chexvision_dispatch.collect import collect
from chexvision_dispatch.resolve import on_datasets
from chexvision_dispatch.studies.leave_one_out import Pair
from chexvision_dispatch.studies.scheduler import Scheduler
from chexvision_dispatch.studies.study_file import BASE, SEED, Evaluation, StudyRun
from chexvision_dispatch.view import RunView

if TYPE_CHECKING:
    from chexvision.data.division import Division
    from chexvision.data.rows import Rows
    from chexvision.metrics.predictions import Predictions

_METHOD = IntervalMethod(resamples=1000, seed=0)
_NEEDS_TRAIN = "it needs numpy and pyarrow on this machine: pip install 'chexvision[train]'"


@dataclass(frozen=True, slots=True)
class _Found:
    """What is known of a complete run.

    Args:
        artifact: where its model is.
        measured: its metrics, of the views that the variant asks for.
        evaluation: the folder of `chexvision evaluate`, where views were asked for.
    """

    artifact: Reference
    measured: Measured
    evaluation: Path | None


@dataclass(slots=True)
class _Results:
    """What was read of a study so far.

    Args:
        scheduler: of the study, whose runs have ended.
        out: folder of the report; receives the evaluations of variants that are evaluated in another way.
        found: what is known of each complete run, by its name.
    """

    scheduler: Scheduler
    out: Path
    found: dict[str, _Found] = field(default_factory=dict)
    _divisions: dict[str, Mapping[str, Division]] = field(default_factory=dict)

    def member(self, run: StudyRun) -> StudyMember:
        """What one run reached."""
        standing = self.scheduler.standings[self.scheduler.key(run)]
        view = standing.view
        made = StudyMember(
            seed=run.recipe.training.seed,
            run_id=view.record.run_id if view is not None else None,
            status=standing.status,
            message=standing.left or (view.message if view is not None else ""),
        )
        if view is None or standing.status != "complete":
            return made
        try:
            return made.model_copy(update=self._read(run, view))
        except ChexError as error:
            return made.model_copy(update={"message": f"no results: {error}"})

    def _read(self, run: StudyRun, view: RunView) -> dict[str, object]:
        artifact = artifact_of(view)
        metrics_file, run_file = model_file(artifact, METRICS), model_file(artifact, RUN)
        if metrics_file is None or run_file is None:
            raise ChexError(f"{artifact} has no {METRICS if metrics_file is None else RUN}")
        measured, info = read_metrics(metrics_file), read_run(run_file)
        folder = None
        if run.evaluation is not None and run.evaluation.tta != "none":
            folder = self.out / "evaluations" / f"{view.record.run_id}-{run.evaluation.tta}"
            if not (folder / METRICS).is_file():
                self._evaluate(run, artifact, run.evaluation, measured.split, folder)
            measured = read_metrics(folder / METRICS)
        self.found[run.name] = _Found(artifact, measured, folder)
        metrics = measured.metrics
        return {
            "artifact": str(artifact),
            "split": measured.split,
            "macro_auroc": metrics.macro["auroc"],
            "binary_auroc": metrics.binary["auroc"] if metrics.binary is not None else UNDEFINED,
            "macro_f1": metrics.macro["f1"],
            "tta": measured.systems[-1].tta,
            "epoch": read_metrics(metrics_file).epoch,
            "train_seconds": info.train_seconds,
            "source": view.record.source_revision + (" with changes" if view.record.source_dirty else ""),
        }

    def _evaluate(self, run: StudyRun, artifact: Reference, how: Evaluation, split: str, folder: Path) -> None:
        """Evaluate a model on this machine, as `chexvision evaluate` does."""
        data, *others = self.scheduler.data.of[run.name]
        if others:
            raise ChexError(f"evaluate a model of a mixture with: chexvision evaluate {artifact} --data … --data …")
        if find_spec("torch") is None:
            raise ChexError(
                f"{_NEEDS_TRAIN}; or evaluate it on another machine: chexvision evaluate {artifact} --data {data} "
                f"--tta {how.tta}"
            )
        from chexvision.evaluation.computing import OnThisMachine
        from chexvision.evaluation.evaluate import evaluate
        from chexvision.evaluation.outcome import Options
        from chexvision.explain.mistake_maps import explain_mistakes
        from chexvision.provenance import now
        from chexvision.report.html import write_report
        from chexvision.training.hardware import start_accelerator

        table = None if run.recipe.data.split in SPLIT_RULES else run.recipe.data.split
        options = Options(split=split, split_rule=table, tta=how.tta)
        here = OnThisMachine(start_accelerator("auto"))
        outcome = evaluate([run.name], [artifact], parse_reference(data), options, here)
        write_report(outcome, folder, now(), explain_mistakes(outcome))

    def predictions(self, run: StudyRun) -> Predictions:
        """The raw predictions of a complete run on what was measured, with the labels of its data.

        Raises:
            ChexError: it was published without them, or the labels cannot be read.
        """
        if find_spec("numpy") is None or find_spec("pyarrow") is None:
            raise ChexError(_NEEDS_TRAIN)
        found = self.found[run.name]
        if found.evaluation is not None:
            from chexvision.inference.predictions_file import read_predictions

            return read_predictions(found.evaluation / "predictions.parquet")
        from chexvision.artifact.probabilities import Probabilities
        from chexvision.inference.stored_predictions import labeled_as_stored

        path, split = model_file(found.artifact, PROBABILITIES), found.measured.split
        if path is None:
            raise ChexError(f"it was published without {PROBABILITIES}")
        rows = self._rows(run)[split]
        return labeled_as_stored("its run", split, rows, Probabilities.read(path))

    def _rows(self, run: StudyRun) -> dict[str, Rows]:
        """The labels of the run's data, read once for all runs that divide it alike."""
        from chexvision.data.joined_rows import sampled_rows
        from chexvision.data.mixture import check_run_data

        config = on_datasets(run.recipe, self.scheduler.data.of[run.name]).data
        key = f"{[(one.name, one.split) for one in config.named]} {config.split} {config.validation_share}"
        if key not in self._divisions:
            self._divisions[key] = check_run_data(config)
        return sampled_rows(config, self._divisions[key], run.recipe.training.seed)

    def left_out(self, run: StudyRun) -> LeftOut:
        """The data set that a run was trained without, under its model and that of the base of the same seed."""
        seed, variant = run.recipe.training.seed, run.variant
        base = next(of for of in self.scheduler.study.of(BASE) if of.recipe.training.seed == seed)
        ((number, one),) = ((i, of) for i, of in enumerate(base.recipe.data.datasets) if of.name == run.left_out)
        dataset = self.scheduler.data.of[base.name][number]
        missing = LeftOut(variant=variant, dataset=dataset, seed=seed)
        if base.name not in self.found or run.name not in self.found:
            return missing.model_copy(update={"message": "a run of the two has no results"})
        models = (self.found[base.name].artifact, self.found[run.name].artifact)
        ids = [self.scheduler.standings[self.scheduler.key(of)].view for of in (base, run)]
        folder = self.out / "evaluations" / "-".join(view.record.run_id for view in ids if view is not None)
        split = base.recipe.data.alone(one).split
        try:
            return Pair(variant, seed, dataset, split, models, folder).result(_METHOD)
        except ChexError as error:
            return missing.model_copy(update={"message": str(error)})


def artifact_of(view: RunView) -> Reference:
    """Where the model of a complete run is; downloaded where it was published nowhere.

    Raises:
        ChexError: see `collect`.
    """
    if view.record.published is not None:
        return parse_reference(view.record.published)
    collected = collect(view.record, None)
    if collected.published is not None:
        return parse_reference(collected.published)
    if collected.folder is None:
        raise ChexError(f"{view.record.run_id} left no artifact")
    return collected.folder


def results_of(scheduler: Scheduler, out: Path) -> StudyResults:
    """Everything that the runs of a study reached; what is missing of a run is said in its message.

    Args:
        scheduler: of the study, whose runs have ended.
        out: folder of the report; variants with views are evaluated into it, once.
    """
    study, results = scheduler.study, _Results(scheduler, out)
    members = {variant: tuple(map(results.member, study.of(variant))) for variant in study.variants}
    predictions, untested = _predictions(results, members)
    own, differences, method = _compared(predictions)
    base = study.of(BASE)[0]
    variants = tuple(
        StudyVariant(
            name=variant,
            changes=_changes(study.of(variant)[0], base),
            members=members[variant],
            macro_auroc=own.get(variant) or _mean_of(members[variant]),
            difference=differences.get(variant),
            untested="" if study.of(variant)[0].left_out else untested.get(variant, ""),
        )
        for variant in study.variants
    )
    first = next((found.measured for found in results.found.values()), None)
    return StudyResults(
        version=__version__,
        study=study.name,
        base=BASE,
        dataset=tuple(dict.fromkeys(name for of in scheduler.data.of.values() for name in of)),
        synthetic=any(found.measured.synthetic for found in results.found.values()),
        images=first.metrics.images if first is not None else None,
        patients=first.metrics.patients if first is not None else None,
        interval=method,
        variants=variants,
        left_out=tuple(results.left_out(run) for run in study.runs if run.left_out),
        notes=(*_notes(members), *_mixture_notes(results)),
    )


def _predictions(
    results: _Results, members: Mapping[str, tuple[StudyMember, ...]]
) -> tuple[dict[str, list[Predictions]], dict[str, str]]:
    """The test predictions of all seeds of each variant that can be compared; why the others cannot."""
    found: dict[str, list[Predictions]] = {}
    untested: dict[str, str] = {}
    for variant, of in members.items():
        failed = next((member for member in of if member.artifact is None), None)
        if failed is not None:
            untested[variant] = f"a run of it is {failed.status}" if len(of) > 1 else f"its run is {failed.status}"
            continue
        try:
            made = [results.predictions(run) for run in results.scheduler.study.of(variant)]
            against = found.get(BASE, made if variant == BASE else None)
            _check_paired(variant, made, against)
        except ChexError as error:
            untested[variant] = str(error)
            continue
        found[variant] = made
    return found, untested


def _check_paired(variant: str, made: list[Predictions], against: list[Predictions] | None) -> None:
    """Raise ChexError unless a variant's predictions can be compared with those of the base."""
    from chexvision.metrics.compare import aligned

    if against is None:
        raise ChexError(f"there are no predictions of {BASE}")
    for one in made:
        if one.images_sha256 != against[0].images_sha256:
            raise ChexError("it was measured on other images")
        if one.names != against[0].names:
            raise ChexError("it predicts other findings")
        aligned(against[0], one, (BASE, variant))  # which refuses other labels and other patients


def _compared(
    predictions: Mapping[str, list[Predictions]],
) -> tuple[dict[str, Estimate], dict[str, Difference], IntervalMethod | None]:
    """The macro AUROC of each variant, the differences from the base, and how their intervals were made."""
    if len(predictions) < 2:
        return {}, {}, None
    from chexvision.metrics.compare_variants import compare_variants

    others = {variant: of for variant, of in predictions.items() if variant != BASE}
    base, compared = compare_variants((BASE, predictions[BASE]), others, _METHOD)
    own = {BASE: base} | {variant: of for variant, (of, _) in compared.items()}
    return own, {variant: difference for variant, (_, difference) in compared.items()}, _METHOD


def _mean_of(members: tuple[StudyMember, ...]) -> Estimate:
    """Of one seed its own estimate; of several the mean of those that there are."""
    if len(members) == 1:
        return members[0].macro_auroc
    known = [member.macro_auroc.value for member in members if member.macro_auroc.value is not None]
    return Estimate(value=mean(known)) if known else UNDEFINED


def _changes(run: StudyRun, base: StudyRun) -> tuple[str, ...]:
    """What was changed in a variant's recipe, without its seed."""
    another = [f"recipe {run.model}"] if run.model != base.model else []
    changed = [text for text in run.overrides if text not in base.overrides and not text.startswith(f"{SEED}=")]
    evaluation = [f"evaluate.tta={run.evaluation.tta}"] if run.evaluation is not None else []
    return (*another, *changed, *evaluation)


def _mixture_notes(results: _Results) -> list[str]:
    if not any(found.measured.mixture for found in results.found.values()):
        return []
    return ["Of a mixture the macro AUROC is of the test images of all its data sets together."]


def _notes(members: Mapping[str, tuple[StudyMember, ...]]) -> list[str]:
    # Not their bundles: those differ by the recipe that is in each.
    sources = {member.source for of in members.values() for member in of} - {None}
    if len(sources) < 2:
        return []
    return [f"The runs were sent with {len(sources)} different states of the source; differences may come from it."]
