"""The columns of a dataset on the Hub as the cells of a table, so that label maps describe them as they do tables."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from string import Formatter
from typing import Any, TypeAlias

from chexvision.errors import UsageError
from chexvision.foreign import printable
from chexvision.label_maps.label_map import LabelMap

Features: TypeAlias = Mapping[str, Any]  # of `datasets`, by column
_ELEMENT = re.compile(r"(.+)\[(\d{1,4})\]")


def image_column(features: Features, label_map: LabelMap | None, source: object) -> str:
    """The column of images: the one that `image:` of the map names, or the only one.

    Images may also be bytes, or a struct with `bytes`, as other programs write them to Parquet; the map has to name
    such a column.

    Raises:
        UsageError: there is none, or several and the map names none of them.
    """
    from datasets import Image

    heads = () if label_map is None else label_map.image
    found = [name for name, feature in features.items() if isinstance(feature, Image)]
    encoded = [name for name, feature in features.items() if name in heads and _is_encoded(feature)]
    chosen = [name for name in found if label_map is None or name in heads] or encoded or found
    if len(chosen) != 1:
        several = f"several columns of images: {', '.join(found)}" if found else "no column of images"
        which = "; name one with image: in the label map" if found else f": {listed(features)}"
        raise UsageError(f"{source} has {several}{which}")
    return chosen[0]


def _is_encoded(feature: Any) -> bool:
    content = feature.get("bytes") if isinstance(feature, dict) else feature
    return getattr(content, "dtype", None) in ("binary", "large_binary")


def needed_columns(label_map: LabelMap, features: Features, image: str, source: object) -> list[str]:
    """The columns that a map reads, without that of the images.

    Raises:
        UsageError: the dataset lacks one.
    """
    one_of: list[Sequence[str]] = [label_map.patient, label_map.split, label_map.age, label_map.sex, label_map.view]
    if label_map.form == "list":
        one_of.append([label_map.labels or ""])
    else:
        one_of += [[label] for target in label_map.targets.values() for label in target.any_of]
        one_of += [label_map.normal, *([label] for label in label_map.also_abnormal)]
    one_of += [[column] for column in label_map.keep]
    pattern = Formatter().parse(label_map.image_path or "")
    one_of += [[field] for _, field, _, _ in pattern if field]
    found = [next((head for head in heads if column_part(head, features)), None) for heads in one_of if heads]
    if None in found:
        missing = [heads for heads in one_of if heads][found.index(None)]
        raise UsageError(f"{source} has no column {missing[0]!r}, which the label map names: {listed(features)}")
    names = [head for head in label_map.image if head in features and head != image][:1]
    return [*dict.fromkeys([*names, *(head for head in found if head is not None)])]


def column_part(head: str, features: Features) -> tuple[str, int | None] | None:
    """The column that a map names, and which element of its lists; None where there is no such column.

    ``labels[3]`` is the fourth element of each list in column ``labels``.
    """
    if head in features:
        return head, None
    match = _ELEMENT.fullmatch(head)
    if match is None or getattr(features.get(match[1]), "feature", None) is None:
        return None
    return match[1], int(match[2])


def row_cells(
    row: Mapping[str, Any], heads: Sequence[str], features: Features, label_map: LabelMap, where: str
) -> dict[str, str]:
    """The cells of a row, by head; see `cell_text`.

    Raises:
        UsageError: see `cell_text`; or a list is shorter than the map needs; null is blank.
    """
    cells = {}
    for head in heads:
        column, element = column_part(head, features) or (head, None)
        value, feature = row[column], features[column]
        if element is not None:
            if value is not None and element >= len(value):
                raise UsageError(f"{where}: {printable(column)} has no element {element}")
            value, feature = None if value is None else value[element], feature.feature
        cells[head] = cell_text(value, feature, label_map, where)
    return cells


class VectorCheck:
    """Refuses a column with a 0 or 1 for each class, described as lists of classes: each image would have both.

    Args:
        column: its name.
        feature: its type.
    """

    def __init__(self, column: str, feature: Any | None) -> None:
        inner = getattr(feature, "feature", None)
        self._column = column
        self._possible = inner is not None and not isinstance(inner, dict) and not getattr(inner, "names", None)
        self._length: int | None = None

    def see(self, value: Sequence[Any] | None) -> None:
        """Called with each row's value."""
        if self._possible and value is not None:
            self._length = len(value) if self._length is None else self._length
            self._possible = len(value) == self._length > 1 and all(one in (0, 1) for one in value)

    def check(self, source: object) -> None:
        """Called after the last row.

        Raises:
            UsageError: it is such a column.
        """
        if self._possible and self._length is not None:
            column = printable(self._column)
            raise UsageError(
                f"{source}: {column} has {self._length} numbers 0 or 1 an image, one for each class; in the label "
                f"map write form: columns, no labels:, and as a target's label '{column}[0]' and so on"
            )


def listed(features: Features) -> str:
    """The columns and their types, for messages."""
    return "; ".join(f"{printable(name)}: {_type_name(feature)}" for name, feature in [*features.items()][:30])


def cell_text(value: Any, feature: Any, label_map: LabelMap, where: str) -> str:
    """A value as the cell of a table: classes by their names, lists joined by the map's separator, null as a blank.

    An empty list is blank, which is unknown; where `normal:` of the map lists a blank, it is the normal label.

    Raises:
        UsageError: it is of a type that has no text, or a name in a list contains the separator.
    """
    inner = getattr(feature, "feature", None)  # of the types of lists
    if inner is None or isinstance(inner, dict) or value is None:
        return _text(value, feature, where)
    names = [_text(one, inner, where) for one in value]
    odd = next((name for name in names if label_map.separator in name), None)
    if odd is not None and len(names) > 1:
        raise UsageError(
            f"{where}: the label {odd!r} contains {label_map.separator!r}; set separator: of the label map to another"
        )
    return label_map.separator.join(names) if names else label_map.normal[0] if "" in label_map.normal else ""


def _text(value: Any, feature: Any, where: str) -> str:
    names = getattr(feature, "names", None)  # of classes; -1 is none
    if value is None or (names and value == -1) or (isinstance(value, float) and math.isnan(value)):
        return ""
    if names and isinstance(value, int):
        if not 0 <= value < len(names):
            raise UsageError(f"{where}: class {value} of a column that has {len(names)}")
        return str(names[value]).strip()
    if isinstance(value, bool):
        return str(int(value))
    if isinstance(value, str | int | float):
        return str(value).strip()
    raise UsageError(
        f"{where}: a label map describes texts, numbers, classes and lists of them, not {_type_name(feature)}"
    )


def _type_name(feature: Any) -> str:
    names, inner = getattr(feature, "names", None), getattr(feature, "feature", None)
    if names:
        shown = ", ".join(printable(str(name)) for name in names[:20])
        return f"classes ({shown}{', …' if len(names) > 20 else ''})"
    if inner is not None and not isinstance(inner, dict):
        return f"lists of {_type_name(inner)}"
    known = str(getattr(feature, "dtype", None) or "PIL.")
    if isinstance(feature, dict):
        return f"struct of {', '.join(map(printable, [*feature][:10]))}"
    return type(feature).__name__ if known.startswith("PIL.") else known
