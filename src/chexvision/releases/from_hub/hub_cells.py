"""The columns of a dataset on the Hub as the cells of a table, so that label maps describe them as they do tables."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from string import Formatter
from typing import Any, TypeAlias

from chexvision.errors import UsageError
from chexvision.foreign import printable
from chexvision.label_maps.label_map import LabelMap

Features: TypeAlias = Mapping[str, Any]  # of `datasets`, by column


def image_column(features: Features, label_map: LabelMap | None, source: object) -> str:
    """The column of images: the one that `image:` of the map names, or the only one.

    Raises:
        UsageError: there is none, or several and the map names none of them.
    """
    from datasets import Image

    found = [name for name, feature in features.items() if isinstance(feature, Image)]
    chosen = [name for name in found if label_map is None or name in label_map.image] or found
    if len(chosen) != 1:
        several = f"several columns of images: {', '.join(found)}" if found else "no column of images"
        which = "; name one with image: in the label map" if found else f": {listed(features)}"
        raise UsageError(f"{source} has {several}{which}")
    return chosen[0]


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
    found = [next((head for head in heads if head in features), None) for heads in one_of if heads]
    if None in found:
        missing = [heads for heads in one_of if heads][found.index(None)]
        raise UsageError(f"{source} has no column {missing[0]!r}, which the label map names: {listed(features)}")
    names = [head for head in label_map.image if head in features and head != image][:1]
    return [*dict.fromkeys([*names, *(head for head in found if head is not None)])]


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
    return type(feature).__name__ if known.startswith("PIL.") else known
