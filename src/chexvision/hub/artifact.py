"""What a run publishes: the files of a model repository, and the records that its card is rendered from."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict

from chexvision.config import Recipe
from chexvision.provenance import Provenance

WEIGHTS = "model.safetensors"
CONFIG = "config.json"
HISTORY = "history.json"
METRICS = "metrics.json"
RUN = "run.json"
CARD = "README.md"
EVAL_RESULTS = ".eval_results/chexvision.yaml"

REQUIRED = (WEIGHTS, CONFIG, HISTORY, METRICS, RUN, CARD)


class _Record(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class FindingMetrics(_Record):
    """Of one finding. Null where the split holds only one kind of image."""

    positives: int
    auroc: float | None
    auprc: float | None


class SplitMetrics(_Record):
    """All figures of one split; the macro ones run over the findings that have both kinds of image."""

    images: int
    patients: int
    macro_auroc: float | None
    macro_auroc_findings: int  # how many findings the mean runs over
    findings: dict[str, FindingMetrics]
    binary_auroc: float | None
    binary_auprc: float | None
    binary_f1: float  # at probability 0.5


class Metrics(_Record):
    """``metrics.json``: the published weights' figures with their conditions.

    Args:
        dataset: ``USER/NAME@sha``, or the folder's path.
        drawn: whether its pictures are drawn, not taken of patients.
        split_table: the table that divided the images, or null for the shards' own split.
        image_size: side in pixels.
        epoch: the one whose weights these are, from 1.
        splits: figures by split.
    """

    dataset: str
    drawn: bool
    split_table: str | None
    image_size: int
    epoch: int
    splits: dict[str, SplitMetrics]


class Hardware(_Record):
    """What a run computed on."""

    device: str
    processes: int
    precision: str
    cpu_count: int
    platform: str


class RunInfo(_Record):
    """``run.json``: all that is needed to repeat the run.

    Args:
        provenance: run id, bundle and source.
        recipe: what was computed.
        dataset: ``USER/NAME@sha``, or the folder's path.
        dataset_identity: equal for equal shards.
        split_table_sha256: of the table's bytes, if one divided the images.
        hardware: of the last session.
        versions: of the packages a result depends on.
        started_at: ISO 8601 in UTC.
        finished_at: likewise.
        train_seconds: spent in optimisation steps, over all sessions.
    """

    provenance: Provenance
    recipe: Recipe
    dataset: str
    dataset_identity: str
    split_table_sha256: str | None
    hardware: Hardware
    versions: dict[str, str]
    started_at: str
    finished_at: str
    train_seconds: float
