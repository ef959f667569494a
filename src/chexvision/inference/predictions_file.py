"""``predictions.parquet``: probabilities and labels of images, as `evaluate` writes them and `compare` reads them."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np

from chexvision.errors import ChexError, UsageError
from chexvision.files.atomic import atomic_path
from chexvision.metrics.predictions import Predictions
from chexvision.metrics.ranking import Floats

_PROBABILITY, _TARGET = "prob_", "label_"


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
