"""The 14 findings of NIH ChestX-ray14 in their canonical order, and how labels are read.

Wang et al., "ChestX-ray8: Hospital-scale Chest X-ray Database and Benchmarks", CVPR 2017.
"""

from __future__ import annotations

FINDINGS: tuple[str, ...] = (
    "Atelectasis",
    "Cardiomegaly",
    "Effusion",
    "Infiltration",
    "Mass",
    "Nodule",
    "Pneumonia",
    "Pneumothorax",
    "Consolidation",
    "Edema",
    "Emphysema",
    "Fibrosis",
    "Pleural_Thickening",
    "Hernia",
)
NO_FINDING = "No Finding"

_INDEX = {finding: i for i, finding in enumerate(FINDINGS)}


def parse_labels(text: str) -> tuple[str, ...]:
    """Read a label string of the release, such as ``"Effusion|Mass"``, into canonical order.

    Args:
        text: findings separated by ``|``, or ``"No Finding"`` alone.

    Returns:
        The findings in canonical order; empty for ``"No Finding"``.

    Raises:
        ValueError: the text is empty, names an unknown finding, or joins "No Finding" to another.
    """
    names = {name.strip() for name in text.split("|")}
    if names == {NO_FINDING}:
        return ()
    if NO_FINDING in names:
        raise ValueError(f"label {text!r} joins {NO_FINDING!r} to a finding")
    unknown = sorted(names - _INDEX.keys())
    if unknown:
        raise ValueError(f"unknown finding {unknown[0]!r} in label {text!r}; known are {', '.join(FINDINGS)}")
    return tuple(sorted(names, key=_INDEX.__getitem__))


def format_labels(findings: tuple[str, ...]) -> str:
    """The inverse of `parse_labels`: ``()`` becomes ``"No Finding"``."""
    return "|".join(findings) if findings else NO_FINDING


def multi_hot(text: str) -> list[float]:
    """The 14 targets of a label string, 1.0 where the finding is named."""
    present = parse_labels(text)
    return [1.0 if finding in present else 0.0 for finding in FINDINGS]


def is_abnormal(text: str) -> bool:
    """The binary target: whether the label string names any finding."""
    return bool(parse_labels(text))


ABNORMAL = "Abnormal"  # the name of the 15th output beside the findings
