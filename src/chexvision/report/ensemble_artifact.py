"""An ensemble as one artifact: its members measured together, their files, operating points of their mean, a card."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from chexvision import __version__
from chexvision.artifact.contents import (
    CARD,
    FIGURES,
    HISTORY,
    METRICS,
    PROBABILITIES,
    RUN,
    TRAINING_IMAGES,
    RunInfo,
    read_run,
)
from chexvision.artifact.ensemble_file import MOST_MEMBERS, EnsembleInfo, Member, member_folder
from chexvision.artifact.metrics_file import Conditions, Evaluation, read_metrics
from chexvision.artifact.probabilities import Probabilities
from chexvision.artifact.store import Publication, open_store
from chexvision.data.source import find_shards
from chexvision.errors import ChexError, UsageError
from chexvision.evaluation.attributes import read_groups
from chexvision.evaluation.overlap import TrainingImages
from chexvision.evaluation.protocol import System, combined, evaluate_systems
from chexvision.files.atomic import sha256_of, write_text_atomic
from chexvision.files.atomic_folder import atomic_folder
from chexvision.hub.reference import Reference, RepoRef, short_names
from chexvision.hub.repo_files import CONFIG, ENSEMBLE, WEIGHTS, at_commit, model_file
from chexvision.inference.stored_predictions import NotStored, StoredPredictions, stored_predictions
from chexvision.layout import cache_dir
from chexvision.metrics.calibration import FILE as CALIBRATION
from chexvision.metrics.measure import measure
from chexvision.metrics.thresholds import FILE as THRESHOLDS
from chexvision.models.model_config import CheXVisionConfig, read_config
from chexvision.predict.input_check import FILE as CHECK_FILE
from chexvision.predict.operating_files import save_operating_points
from chexvision.provenance import Provenance, now, source_revision
from chexvision.report.charts import curve_sheets
from chexvision.report.model_card import render_ensemble_card
from chexvision.shards.download import cached_shards
from chexvision.shards.split_rule import SplitRecord

Weights = Literal["equal", "validation"]

_MEMBER_FILES = (
    CONFIG, WEIGHTS, RUN, HISTORY, METRICS, PROBABILITIES, TRAINING_IMAGES, THRESHOLDS, CALIBRATION, CHECK_FILE,
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class _Source:
    """A member where it was published."""

    name: str
    reference: Reference
    config: CheXVisionConfig
    run: RunInfo | None

    def member(self, weight: float) -> Member:
        """Its entry in ``ensemble.json``, without the path of a folder on this machine."""
        run, where = self.run, self.reference
        return Member(
            reference=str(where) if isinstance(where, RepoRef) else where.resolve().name,
            run_id=run.provenance.run_id if run else None,
            recipe=run.recipe.name if run else None,
            seed=run.recipe.training.seed if run else None,
            backbone=self.config.backbone,
            image_size=self.config.preprocessing.image_size,
            license=run.weights.license if run and run.weights else None,
            weight=weight,
        )


def assemble_ensemble(
    members: Sequence[Reference],
    to: Reference,
    *,
    weights: Weights = "equal",
    data: Reference | None = None,
    split_rule: str | None = None,
    private: bool = False,
    run_id: str | None = None,
) -> Publication:
    """Publish several models as one artifact that predicts the weighted mean of their raw probabilities.

    Weights, calibration and thresholds of the mean are chosen on validation, in this order, and the mean is measured
    on test. This takes the probabilities that runs publish and the labels of their data set. Where these do not fit
    together and `data` is named, its images are predicted, which takes torch.

    Args:
        members: at least two published models of the same findings; their preprocessing may differ.
        to: a repository or a folder.
        weights: equal, or fitted on validation.
        data: the shards; by default those that the members were measured on.
        split_rule: how to divide them, as `SplitChoice.parse` takes it; by default as the members' were.
        private: whether a repository that has to be created is seen by its owner alone.
        run_id: the tag of the publication; the same one again changes nothing. By default one of the members' weights
            and these options.

    Raises:
        UsageError: the members cannot be one model, or not without images that `data` has to name.
        ChexError: a member or the data cannot be fetched or read.
        PublishError: the ensemble is complete on this machine and could not be published.
    """
    sources = _sources(members, to)
    revision, dirty = source_revision()
    tag = run_id or f"ensemble-{_identity(sources, weights, data, split_rule)}"
    provenance = Provenance(run_id=tag, source_revision=revision, source_dirty=dirty)
    folder = cache_dir() / "ensembles" / provenance.run_id
    _write(folder, sources, weights, _measured(sources, weights, data, split_rule), provenance, to)
    published = open_store(to, private=private, again="repeat the command").publish(folder, tag)
    shutil.rmtree(folder)
    return published


def _identity(sources: Sequence[_Source], weights: Weights, data: Reference | None, split_rule: str | None) -> str:
    """Equal for equal weights of the members and equal options: a repeated command publishes nothing twice."""
    files = [path for of in sources if (path := model_file(of.reference, WEIGHTS)) is not None]
    asked = f"{__version__} {weights} {data} {split_rule} {sha256_of(*files)}"
    return hashlib.sha256(asked.encode()).hexdigest()[:12]


def _sources(members: Sequence[Reference], to: Reference) -> list[_Source]:
    """The members, each at one commit, checked to be models of the same findings."""
    if not 2 <= len(members) <= MOST_MEMBERS:
        raise UsageError(f"{len(members)} models are named; an ensemble has 2 to {MOST_MEMBERS}")
    references = [at_commit(member) for member in members]
    places = [of.resolve() if isinstance(of, Path) else of for of in references]
    if len(set(places)) < len(places):
        raise UsageError("a model is named twice; name each once")
    if to in members or (isinstance(to, Path) and to.resolve() in places):
        raise UsageError(f"{to} is one of the members; name another place for the ensemble with --to")
    found: list[tuple[CheXVisionConfig, RunInfo | None]] = []
    for member, reference in zip(members, references, strict=True):
        config, run = model_file(reference, CONFIG), model_file(reference, RUN)
        if config is None:
            raise UsageError(f"{member} is an ensemble; name its members one by one")
        found.append((read_config(config), read_run(run) if run else None))
        first = found[0][0].label_space
        if found[-1][0].label_space != first:
            raise UsageError(
                f"{members[0]} predicts {', '.join(first.findings)}, but {member} predicts "
                f"{', '.join(found[-1][0].label_space.findings)}: members of an ensemble predict the same findings"
            )
    run_ids = [run.provenance.run_id for _, run in found if run]
    names = run_ids if len(set(run_ids)) == len(members) else short_names([str(member) for member in members])
    return [_Source(*of) for of in zip(names, references, *zip(*found, strict=True), strict=True)]


@dataclass(frozen=True, slots=True)
class _Measured:
    """The ensemble on validation and test.

    Args:
        evaluation: of each member and, last, their mean.
        system: the mean.
        split: how the images were divided.
        dataset_identity: of the data.
    """

    evaluation: Evaluation
    system: System
    split: SplitRecord
    dataset_identity: str


def _measured(
    sources: Sequence[_Source], weights: Weights, data: Reference | None, split_rule: str | None
) -> _Measured:
    names, references = [of.name for of in sources], [of.reference for of in sources]
    try:
        evaluation, system = _of_stored(stored_predictions(names, references, data, split_rule), references, weights)
    except NotStored:
        if data is None:
            raise
        evaluation, system = _of_images(names, references, weights, data, split_rule)
    division, identity = evaluation.division, evaluation.dataset_identity
    if division is None or identity is None:
        raise ChexError(f"the metrics of {names[0]} do not record which images they are of")
    sizes = {of.config.preprocessing.image_size for of in sources}
    others = {
        "validation": measure(system.validation) if system.validation else None,
        "image_size": sizes.pop() if len(sizes) == 1 else None,
    }
    return _Measured(evaluation.model_copy(update=others), system, division, identity)


def _of_stored(
    stored: StoredPredictions, references: Sequence[Reference], weights: Weights
) -> tuple[Evaluation, System]:
    """The members' own probabilities, measured."""
    for name, of in zip(stored.names, stored.predictions, strict=True):
        if "test" not in of:
            raise UsageError(f"{name} has no test images, which an ensemble is measured on; name shards with --data")
    systems = combined(stored.names, [[of["test"], of["validation"]] for of in stored.predictions], weights)
    path = model_file(references[0], METRICS)
    if path is None:
        raise ChexError(f"{stored.names[0]} has no {METRICS}")
    own = read_metrics(path)
    conditions = Conditions(
        version=__version__,
        dataset=own.dataset,
        dataset_identity=own.dataset_identity,
        synthetic=own.synthetic,
        split="test",
        split_rule=own.split_rule,
        division=stored.division.record,
    )
    groups = None
    if isinstance(stored.data, Path) or cached_shards(stored.data):
        groups = read_groups(find_shards(stored.data), stored.division.rows["test"])
    evaluation, measured = evaluate_systems(systems, conditions, groups)
    return evaluation, measured[-1]


def _of_images(
    names: Sequence[str],
    references: Sequence[Reference],
    weights: Weights,
    data: Reference,
    split_rule: str | None,
) -> tuple[Evaluation, System]:
    """The images of `data`, predicted and measured."""
    from accelerate import Accelerator

    from chexvision.evaluation.computing import OnThisMachine
    from chexvision.evaluation.evaluate import evaluate
    from chexvision.evaluation.outcome import Options

    options = Options(weights=weights, split_rule=split_rule)
    outcome = evaluate(names, references, data, options, OnThisMachine(Accelerator()))
    return outcome.evaluation, outcome.main


def _write(
    folder: Path,
    sources: Sequence[_Source],
    weights: Weights,
    measured: _Measured,
    provenance: Provenance,
    to: Reference,
) -> None:
    """Write all files of the artifact into `folder`, which appears complete or not at all."""
    evaluation, system = measured.evaluation, measured.system
    data = Path(evaluation.dataset)
    info = EnsembleInfo(
        members=tuple(of.member(weight) for of, weight in zip(sources, system.weights, strict=True)),
        weights=weights,
        provenance=provenance,
        dataset=data.name if data.is_absolute() else evaluation.dataset,
        dataset_identity=measured.dataset_identity,
        split=measured.split,
        created_at=now(),
    )
    figures = curve_sheets(system.predictions, system.points, evaluation.metrics)
    predictions = {"test": system.predictions}
    if system.validation is not None:
        predictions["validation"] = system.validation
    with atomic_folder(folder) as partial:
        for number, of in enumerate(sources, 1):
            _copy(of.reference, partial / member_folder(number))
        evaluation = _with_input_check(evaluation, partial)
        write_text_atomic(partial / CARD, render_ensemble_card(evaluation, info, sorted(figures), to))
        write_text_atomic(partial / ENSEMBLE, info.model_dump_json(indent=2) + "\n")
        write_text_atomic(partial / METRICS, evaluation.model_dump_json(indent=2) + "\n")
        save_operating_points(system.points, partial)
        of_members = sources[0].config.label_space
        # Of the findings that the data label, where the members predict others as well.
        findings = tuple(name for name in system.predictions.names if name in of_members.findings)
        label_space = of_members.model_copy(update={"findings": findings})
        Probabilities.of(measured.dataset_identity, label_space, predictions).write(partial / PROBABILITIES)
        for name, text in figures.items():
            write_text_atomic(partial / FIGURES / name, text)
        seen = [partial / member_folder(number) / TRAINING_IMAGES for number in range(1, len(sources) + 1)]
        if all(path.is_file() for path in seen):
            TrainingImages.union([TrainingImages.read(path) for path in seen]).write(partial / TRAINING_IMAGES)


def _with_input_check(evaluation: Evaluation, folder: Path) -> Evaluation:
    """Give the ensemble in `folder` the input check of its first member, if that has one."""
    first = folder / member_folder(1)
    if not (first / CHECK_FILE).is_file():
        return evaluation
    shutil.copyfile(first / CHECK_FILE, folder / CHECK_FILE)
    return evaluation.model_copy(update={"input_check": read_metrics(first / METRICS).input_check})


def _copy(reference: Reference, folder: Path) -> None:
    """Copy a member's files, as far as it has them, to a new folder."""
    folder.mkdir(parents=True)
    for name in _MEMBER_FILES:
        path = model_file(reference, name)
        if path is not None:
            shutil.copyfile(path, folder / name)
        elif name == WEIGHTS:
            raise ChexError(f"{reference} has no {WEIGHTS}; pickled weights are never loaded")
