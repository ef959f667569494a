"""What a run publishes: the files of a model repository, and the records that its card is rendered from."""

from __future__ import annotations

from chexvision.config import Recipe
from chexvision.evaluation.published import Beside
from chexvision.evaluation.records import Attribute, Record, SplitMetrics
from chexvision.provenance import Provenance

WEIGHTS = "model.safetensors"
CONFIG = "config.json"
HISTORY = "history.json"
METRICS = "metrics.json"
RUN = "run.json"
CARD = "README.md"
FIGURES = "figures"

REQUIRED = (WEIGHTS, CONFIG, HISTORY, METRICS, RUN, CARD)


class Metrics(Record):
    """``metrics.json``: the published weights' figures with their conditions.

    Args:
        dataset: ``USER/NAME@sha``, or the folder's path.
        drawn: whether its pictures are drawn, not taken of patients.
        split_table: name of the table that divided the images, or null for the shards' own split.
        image_size: side in pixels.
        epoch: the one whose weights these are, from 1.
        splits: figures by split. Thresholds and calibration were chosen on validation; validation's own figures
            are of raw probabilities, with calls at one half.
        subgroups: of the test split.
        published: figures of others, and which of them were taken of the same images.
    """

    dataset: str
    drawn: bool
    split_table: str | None
    image_size: int
    epoch: int
    splits: dict[str, SplitMetrics]
    subgroups: tuple[Attribute, ...] = ()
    published: tuple[Beside, ...] = ()


class Hardware(Record):
    """What a run computed on."""

    device: str
    processes: int
    precision: str
    cpu_count: int
    platform: str


class RunInfo(Record):
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
