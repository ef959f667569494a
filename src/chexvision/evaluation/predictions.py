"""Probabilities beside labels: what every figure is computed from, and ``predictions.parquet``."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from chexvision.data.splits import images_sha256
from chexvision.errors import ChexError, UsageError
from chexvision.evaluation.ranking import Floats
from chexvision.evaluation.records import ABNORMAL
from chexvision.files import atomic_path
from chexvision.labels import FINDINGS

OUTPUTS: tuple[str, ...] = (*FINDINGS, ABNORMAL)  # of a model, in order
_PROBABILITY, _TARGET = "prob_", "label_"


@dataclass(frozen=True, slots=True)
class Predictions:
    """What a model says of N images, and what their labels say.

    Args:
        names: what the K columns are about, mostly `OUTPUTS`.
        filenames: str[N].
        patients: int64[N].
        probabilities: float64[N, K] in [0, 1].
        targets: float64[N, K], 1, 0, or NaN where the label is unknown.

    Raises:
        ChexError: a probability is not a number in [0, 1].
    """

    names: tuple[str, ...]
    filenames: NDArray[np.str_]
    patients: NDArray[np.int64]
    probabilities: Floats
    targets: Floats

    def __post_init__(self) -> None:
        odd = ~((self.probabilities >= 0) & (self.probabilities <= 1))
        if odd.any():
            row, column = np.argwhere(odd)[0]
            raise ChexError(
                f"{int(odd.sum()):,} of {odd.size:,} predicted probabilities are not numbers from 0 to 1, first "
                f"{self.probabilities[row, column]} for {self.names[column]} of {self.filenames[row]}"
            )

    def __len__(self) -> int:
        return len(self.filenames)

    def take(self, index: NDArray[np.int64] | NDArray[np.bool_]) -> Predictions:
        """The images at `index`, in its order."""
        return Predictions(
            self.names, self.filenames[index], self.patients[index], self.probabilities[index], self.targets[index]
        )

    def with_probabilities(self, probabilities: Floats) -> Predictions:
        """The same images with other probabilities, float64[N, K]."""
        return Predictions(self.names, self.filenames, self.patients, probabilities, self.targets)

    def column(self, name: str) -> int:
        """Where `name` stands among the columns."""
        return self.names.index(name)

    @property
    def images_sha256(self) -> str:
        """Equal for equal sets of images, whatever their order."""
        return images_sha256(self.filenames)


def write_predictions(path: Path, predictions: Predictions) -> None:
    """Write ``filename, patient_id, prob_<name>…, label_<name>…`` as Parquet; an unknown label is null."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    columns: dict[str, pa.Array] = {
        "filename": pa.array(predictions.filenames.tolist(), pa.string()),
        "patient_id": pa.array(predictions.patients, pa.int64()),
    }
    for i, name in enumerate(predictions.names):
        columns[_PROBABILITY + name] = pa.array(predictions.probabilities[:, i], pa.float64())
    for i, name in enumerate(predictions.names):
        target = predictions.targets[:, i]
        columns[_TARGET + name] = pa.array(np.nan_to_num(target).astype(np.int8), pa.int8(), mask=np.isnan(target))
    with atomic_path(path) as partial:
        pq.write_table(pa.table(columns), partial, compression="zstd")


def read_predictions(path: Path) -> Predictions:
    """Read what `write_predictions` wrote.

    Raises:
        UsageError: the file is missing or something else.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        table = pq.read_table(path)
    except (OSError, pa.ArrowException) as error:
        raise UsageError(f"{path} cannot be read as predictions: {error}") from None
    names = tuple(name.removeprefix(_PROBABILITY) for name in table.column_names if name.startswith(_PROBABILITY))
    needed = ["filename", "patient_id", *(_TARGET + name for name in names)]
    missing = [column for column in needed if column not in table.column_names]
    if missing or not names:
        what = f"column {missing[0]!r}" if missing else f"{_PROBABILITY}… column"
        raise UsageError(f"{path} has no {what}; name a predictions.parquet that `chexvision evaluate` wrote")

    def matrix(prefix: str) -> Floats:
        parts = [table.column(prefix + name).to_numpy().astype(np.float64) for name in names]
        return np.stack(parts, axis=1)

    blank = [column for column in ("filename", "patient_id") if table.column(column).null_count]
    if blank:
        raise UsageError(f"{path} has rows without {blank[0]}")
    filenames = table.column("filename").to_pylist()
    if len(set(filenames)) < len(filenames):
        repeated = next(name for name, count in Counter(filenames).items() if count > 1)
        raise UsageError(f"{path} names {repeated} more than once; one row per image is needed")
    targets = matrix(_TARGET)
    if not np.isin(targets[~np.isnan(targets)], (0, 1)).all():
        raise UsageError(f"{path} has labels other than 0, 1 and null")
    try:
        return Predictions(
            names,
            np.array(filenames, np.str_),
            table.column("patient_id").to_numpy().astype(np.int64),
            matrix(_PROBABILITY),
            targets,
        )
    except ChexError as error:
        raise UsageError(f"{path}: {error}") from None
