"""Other people's labels of images, read from a table with a label map, as arrays."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from chexvision.errors import UsageError
from chexvision.label_maps.label_map import LabelMap
from chexvision.label_maps.label_values import label_values
from chexvision.label_maps.table_rows import image_names, patient_names, read_rows
from chexvision.labels import ABNORMAL, UNCERTAIN
from chexvision.metrics.ranking import Floats


@dataclass(frozen=True, slots=True)
class OtherLabels:
    """The labels of N images in a table.

    Args:
        filenames: str[N], paths as the table writes them.
        patients: int64[N].
        targets: float64[N, K] over `names`: 1, 0, or NaN where unknown.
        names: the map's targets, and `ABNORMAL` where the map defines normal.
        findings: ours that each is predicted from.
    """

    filenames: NDArray[np.str_]
    patients: NDArray[np.int64]
    targets: Floats
    names: tuple[str, ...]
    findings: tuple[tuple[str, ...], ...]


def read_other_labels(path: Path, label_map: LabelMap) -> OtherLabels:
    """Read another set's table; uncertain labels are unknown here.

    Raises:
        UsageError: it cannot be read, lacks a column that the map names, names an image twice, or has no label.
    """
    rows = read_rows(path, label_map)
    images = image_names(rows, label_map, path)
    labels = label_values(rows, label_map, path)
    names = (*label_map.targets, *((ABNORMAL,) if label_map.normal else ()))
    targets = np.array([[row[name] for name in names] for row in labels])
    targets[targets == UNCERTAIN] = np.nan
    kept, targets = _one_row_per_image(images, targets, label_map, path)
    patients = patient_names([rows[i] for i in kept], [images[i] for i in kept], label_map, path)
    numbers = np.unique(np.array(patients), return_inverse=True)[1].astype(np.int64).reshape(-1)
    findings = tuple(label_map.findings_of(name) if name != ABNORMAL else (ABNORMAL,) for name in names)
    return OtherLabels(np.array([images[i] for i in kept]), numbers, targets, names, findings)


def _one_row_per_image(
    images: list[str], targets: Floats, label_map: LabelMap, path: Path
) -> tuple[list[int], Floats]:
    places: dict[str, list[int]] = defaultdict(list)
    for i, image in enumerate(images):
        places[image].append(i)
    repeated = next((image for image, rows in places.items() if len(rows) > 1), None)
    if repeated is None:
        return list(range(len(images))), targets
    if label_map.repeats == "refuse":
        raise UsageError(f"{path} names {repeated} {len(places[repeated])} times; one row per image is needed")
    with np.errstate(invalid="ignore"):
        means = np.array([targets[rows].mean(axis=0) for rows in places.values()])
    return [rows[0] for rows in places.values()], np.where(np.isnan(means), np.nan, means > 0.5)
