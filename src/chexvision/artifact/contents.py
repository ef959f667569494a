"""What a run publishes: the files of a model repository, and the records that its card is rendered from."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, ValidationError

from chexvision.artifact.mixture_records import DataTerms, TrainedOn
from chexvision.config.recipe import Recipe, upgraded_recipe
from chexvision.config.weights_source import WeightsReport
from chexvision.errors import ChexError
from chexvision.files.json_files import read_file
from chexvision.hub.repo_files import CONFIG, ENSEMBLE, WEIGHTS
from chexvision.hub.repo_files import RUN as RUN
from chexvision.metrics.records import Record
from chexvision.provenance import Provenance
from chexvision.shards.split import VALIDATION_SHARE
from chexvision.shards.split_rule import SplitRecord

HISTORY = "history.json"
METRICS = "metrics.json"  # see `chexvision.artifact.metrics_file`
CARD = "README.md"
TRAINING_IMAGES = "training_images.npz"  # see `chexvision.evaluation.overlap`
PROBABILITIES = "probabilities.npz"  # see `chexvision.artifact.probabilities`
FIGURES = "figures"

REQUIRED = (WEIGHTS, CONFIG, HISTORY, METRICS, RUN, CARD)
REQUIRED_OF_ENSEMBLE = (ENSEMBLE, METRICS, CARD)


class Hardware(Record):
    """What a run computed on."""

    device: str
    processes: int
    precision: str
    cpu_count: int
    platform: str


class TeacherInfo(Record):
    """The published model or ensemble whose probabilities a run was trained on.

    Args:
        name: ``USER/REPO@sha``, or the folder's name.
        identity: of a repository the same; of a folder, a sha256 of its networks.
        notes: on images of this run's validation and test splits that it was trained on.
    """

    name: str
    identity: str
    notes: tuple[str, ...] = ()


class RunInfo(Record):
    """``run.json``: all that is needed to repeat the run.

    Args:
        provenance: run id, bundle and source.
        recipe: what was computed.
        dataset: ``USER/NAME@sha``, the folder's path, or the names of a mixture's data sets.
        dataset_identity: equal for shards of equal names and content.
        split: how its images were divided; of a mixture, the images of all data sets together.
        datasets: of a mixture; empty for one data set.
        terms: of one data set, where its shards record them; a mixture's are in `datasets`.
        weights: what it started from; None for random weights, and for runs before it was recorded.
        hardware: of the last session.
        versions: of the packages a result depends on.
        started_at: ISO 8601 in UTC.
        finished_at: ISO 8601 in UTC.
        train_seconds: spent in optimization steps, over all sessions.
        teacher: of distillation; null without.
    """

    provenance: Provenance
    recipe: Recipe
    dataset: str
    dataset_identity: str
    split: SplitRecord
    datasets: Annotated[tuple[TrainedOn, ...], Field(exclude_if=lambda value: not value)] = ()
    terms: Annotated[DataTerms | None, Field(exclude_if=lambda value: value is None)] = None
    weights: WeightsReport | None = None
    hardware: Hardware
    versions: dict[str, str]
    started_at: str
    finished_at: str
    train_seconds: float
    teacher: TeacherInfo | None = None

    @property
    def identities(self) -> tuple[str, ...]:
        """Of each data set that it was trained on."""
        return tuple(one.dataset_identity for one in self.datasets) or (self.dataset_identity,)

    def split_of(self, identity: str | None) -> SplitRecord | None:
        """How the data set of this identity was divided; of a mixture None for one that is not part of it."""
        if not self.datasets:
            return self.split
        return next((one.split for one in self.datasets if one.dataset_identity == identity), None)


def read_run(path: Path) -> RunInfo:
    """Read a ``run.json``, also one of a version that knew no split but the shards' own and a table's.

    Raises:
        ChexError: it cannot be read, or is something else.
    """
    data = read_file(path)
    try:
        known = _with_split(json.loads(data))
        known["recipe"] = upgraded_recipe(known["recipe"])
        return RunInfo.model_validate_json(json.dumps(known))
    except (ValidationError, ValueError, TypeError, AttributeError, KeyError, RecursionError) as error:
        raise ChexError(f"{path} is not a run's record: {' '.join(str(error).split())[:200]}") from None


def _with_split(run: dict[str, Any]) -> dict[str, Any]:
    """A run's record in today's form."""
    if "split" in run:
        return run
    data = dict(run["recipe"]["data"])
    table = data.pop("split_table")
    data |= {"split": "shards", "validation_share": VALIDATION_SHARE}
    split: dict[str, Any] = {"rule": "shards"}
    if table is not None:
        data["split"] = f"./{Path(table).name}"
        split = {"rule": "table", "table": Path(table).name, "table_sha256": run["split_table_sha256"]}
    others = {key: value for key, value in run.items() if key != "split_table_sha256"}
    return {**others, "recipe": {**run["recipe"], "data": data}, "split": split}
