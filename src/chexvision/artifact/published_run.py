"""What a run published, read for tables of many runs: every file by itself, so that a damaged one costs one run.

Needs no numpy. The files are other people's: sizes are bounded, and nothing in them is trusted.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Annotated, TypeVar

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from chexvision.artifact.contents import HISTORY, METRICS, RUN, RunInfo, read_run
from chexvision.artifact.ensemble_file import EnsembleInfo, read_ensemble
from chexvision.artifact.metrics_file import Evaluation, read_metrics
from chexvision.errors import ChexError
from chexvision.files.json_files import first_problem, read_file
from chexvision.foreign import printable
from chexvision.hub.published_models import HubModel, hub_model
from chexvision.hub.reference import Reference, RepoRef
from chexvision.hub.repo_files import ENSEMBLE, WEIGHTS, model_file
from chexvision.metrics.records import UNDEFINED

_MOST_EPOCHS = 10_000
_LONGEST_HEADER = 16 * 2**20  # bytes of the header of a safetensors file
_MOST_AXES = 8  # of a tensor
_MOST_SECONDS = 1e9  # of training: 32 years

Auroc = Annotated[float, Field(ge=0, le=1)] | None
Loss = Annotated[float, Field(ge=-1e9, le=1e9)]  # what a chart's axis can be computed of
T = TypeVar("T")


class _Part(BaseModel):
    """What is shown of an entry of ``history.json``, whatever else later versions record."""

    model_config = ConfigDict(extra="ignore", frozen=True, allow_inf_nan=False)


class DatasetPoint(_Part):
    """One dataset of a mixture after an epoch."""

    macro_auroc: Auroc = None


class _Mixture(_Part):
    datasets: dict[str, DatasetPoint] = Field(default_factory=dict)


class CurvePoint(_Part):
    """An epoch of a learning curve, on validation.

    Args:
        epoch: from 1.
        macro_auroc: null where undefined.
        binary_auroc: of normal/abnormal.
        train_loss: of training.
        validation_loss: of validation.
        mixture: of the datasets of a mixture, by name.
    """

    epoch: Annotated[int, Field(ge=1, le=10**6)]
    macro_auroc: Auroc = None
    binary_auroc: Auroc = None
    train_loss: Loss
    validation_loss: Loss
    mixture: _Mixture | None = None


Curve = tuple[CurvePoint, ...]
_CURVE: TypeAdapter[Curve] = TypeAdapter(Annotated[Curve, Field(max_length=_MOST_EPOCHS)])


@dataclass(frozen=True, slots=True)
class PublishedRun:
    """A published model with what its run recorded. None where it has no such file, or the file cannot be used.

    Args:
        name: what to call it.
        reference: a folder, or a repository at a commit.
        info: ``run.json``.
        ensemble: ``ensemble.json``, of an ensemble, which has no run and no curve of its own.
        metrics: ``metrics.json``.
        curve: ``history.json``; empty where there is none.
        parameters: of its weights, where known.
        problems: why a file is missing, or cannot be used.
        private: whether it is a repository that its owner alone sees.
    """

    name: str
    reference: Reference
    info: RunInfo | None = None
    ensemble: EnsembleInfo | None = None
    metrics: Evaluation | None = None
    curve: Curve = ()
    parameters: int | None = None
    problems: tuple[str, ...] = ()
    private: bool = False

    @property
    def run_id(self) -> str | None:
        """Of the run, or of the ensemble."""
        of = self.info or self.ensemble
        return of.provenance.run_id if of is not None else None

    @property
    def finished_at(self) -> str:
        """ISO 8601 in UTC; empty where unknown."""
        if self.info is not None:
            return self.info.finished_at
        return self.ensemble.created_at if self.ensemble is not None else ""

    @property
    def page(self) -> str | None:
        """Its page on the Hub."""
        return page_of(self.reference)


def page_of(reference: Reference) -> str | None:
    """The page of a repository at its commit; None of a folder."""
    if not isinstance(reference, RepoRef):
        return None
    return f"https://huggingface.co/{reference.repo_id}/tree/{reference.revision or 'main'}"


def read_published(name: str, reference: Reference) -> PublishedRun:
    """Read what a run published.

    Args:
        name: what to call it.
        reference: a folder, or a repository, which is read at the commit that it names now.
    """
    problems: list[str] = []

    def attempt(read: Callable[[], T]) -> T | None:
        try:
            return read()
        except ChexError as error:
            problems.append(str(error))
            return None

    where = attempt(lambda: _at_commit(reference))
    if where is None:
        return PublishedRun(name, reference, problems=tuple(problems))

    def file(kind: str, read: Callable[[Path], T]) -> T | None:
        path = attempt(lambda: _file(where, kind))
        return None if path is None else attempt(lambda: _named(read, path, kind))

    ensemble = file(ENSEMBLE, read_ensemble)
    metrics = file(METRICS, _plausible_metrics)
    info = None if ensemble is not None else file(RUN, _plausible_run)
    curve = () if ensemble is not None else file(HISTORY, read_curve) or ()
    found = {METRICS: metrics} if ensemble is not None else {METRICS: metrics, RUN: info, HISTORY: curve or None}
    for kind, content in found.items():
        if content is None and not any(kind in problem for problem in problems):
            problems.append(f"it has no {kind}")
    parameters = where.parameters if isinstance(where, HubModel) else _parameters(where / WEIGHTS)
    at = where.reference if isinstance(where, HubModel) else where
    private = isinstance(where, HubModel) and where.private
    return PublishedRun(name, at, info, ensemble, metrics, curve, parameters, tuple(problems), private)


def read_curve(path: Path) -> Curve:
    """The epochs of a ``history.json``, in order.

    Raises:
        ChexError: it cannot be read, or is something else.
    """
    try:
        curve = _CURVE.validate_json(read_file(path))
    except ValidationError as error:
        raise ChexError(f"{path} is not a history of epochs: {first_problem(error)}") from None
    if not curve:
        raise ChexError(f"{path} has no epoch")
    return tuple(sorted(curve, key=lambda of: of.epoch))


def _plausible_metrics(path: Path) -> Evaluation:
    """What was measured; a table that shows AUROCs beyond [0, 1] would rank them first."""
    found = read_metrics(path)
    parts = [*(of.metrics for of in found.systems), *(of.metrics for of in found.mixture)]
    for metrics in parts:
        shown = {"the mean": metrics.macro, "normal/abnormal": metrics.binary, **metrics.findings}
        for name, one in shown.items():
            of = one["auroc"] if one is not None else UNDEFINED
            for value in (of.value, *(of.interval or ())):
                if value is not None and not 0 <= value <= 1:
                    raise ChexError(f"{path} has an AUROC of {value:g} for {printable(name)[:80]}; it is in [0, 1]")
    return found


def _plausible_run(path: Path) -> RunInfo:
    """The run's record; times are sorted and added, so that they have to be some."""
    found = read_run(path)
    if not 0 <= found.train_seconds <= _MOST_SECONDS:
        raise ChexError(f"{path} has train_seconds {found.train_seconds:g}; they are in [0, {_MOST_SECONDS:g}]")
    try:
        datetime.fromisoformat(found.finished_at)
    except ValueError:
        raise ChexError(f"{path} has finished_at {found.finished_at[:40]!r}, which is not in ISO 8601") from None
    return found


def _at_commit(reference: Reference) -> HubModel | Path:
    if isinstance(reference, RepoRef):
        return hub_model(reference)
    if not reference.is_dir():
        raise ChexError(f"{reference} is not a folder")
    return reference


def _file(where: HubModel | Path, name: str) -> Path | None:
    if isinstance(where, Path):
        return model_file(where, name)
    return model_file(where.reference, name) if where.fits(name) else None


def _named(read: Callable[[Path], T], path: Path, name: str) -> T:
    """What `read` makes of a file; errors name the file without the folder that it was cached in."""
    try:
        return read(path)
    except ChexError as error:
        raise ChexError(str(error).replace(str(path), name)) from None


def _parameters(path: Path) -> int | None:
    """The parameters in a safetensors file, by its header; None where that cannot be read."""
    try:
        with path.open("rb") as file:
            (length,) = struct.unpack("<Q", file.read(8))
            header = json.loads(file.read(min(length, _LONGEST_HEADER)))
        shapes = [of["shape"] for name, of in header.items() if name != "__metadata__"]
        return sum(_product(shape) for shape in shapes)
    except (OSError, ValueError, TypeError, AttributeError, KeyError, struct.error, RecursionError):
        return None


def _product(shape: list[int]) -> int:
    if len(shape) > _MOST_AXES:
        raise ValueError(f"{len(shape)} axes")
    found = 1
    for size in shape:
        if not isinstance(size, int) or not 0 <= size < 2**32:
            raise ValueError(f"{size!r} is not a size")
        found *= size
    return found
