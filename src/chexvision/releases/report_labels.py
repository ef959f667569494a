"""The tables of the CheXpert labeler, which CheXpert and MIMIC-CXR have: 14 columns of 1, 0, -1 or blank.

A blank is a finding that the report does not mention. The labeler writes No Finding where no other finding than
Support Devices is 1 or -1: none of the 22,381 such rows of CheXpert's `train.csv` has another. There a blank means
absent, as in TorchXRayVision's `CheX_Dataset` and `MIMIC_Dataset`, and elsewhere it stays unknown. Where a row of
another table has both, the finding counts; TorchXRayVision would erase it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from chexvision.label_maps.label_map import LabelMap
from chexvision.label_maps.label_values import label_values
from chexvision.label_maps.table_rows import TableRow, need_columns, plain_rows


def labeled_rows(
    table: Path, label_map: LabelMap, needed: Sequence[str], others: Sequence[str] = ()
) -> Iterator[tuple[TableRow, tuple[float, ...]]]:
    """Each row with the values of the map's targets, in order; see `LabelSpace.values`.

    Args:
        table: the file.
        label_map: the columns that are labels.
        needed: columns that are none.
        others: such that the table may lack.

    Raises:
        UsageError: it cannot be read, or lacks a column.
    """
    labels = {label for target in label_map.targets.values() for label in target.any_of} | {*label_map.normal}
    rows = plain_rows(table, {*needed, *others, *labels}, complete=True)
    need_columns(rows[0], needed, table)
    found = label_values(rows, label_map, table, strict=True, contradictions=True)
    for row, values in zip(rows, found, strict=True):
        yield row, tuple(values[name] for name in label_map.targets)
