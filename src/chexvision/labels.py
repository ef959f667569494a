"""Label sets: the findings in their order, and how the labels of an image are written as text.

A label set is data: shards carry theirs in ``manifest.json`` and models in ``config.json``.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from typing import Annotated, Final, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

# Findings are shown in tables and become parts of file names; "|" separates them in label texts.
Finding = Annotated[str, Field(max_length=64, pattern=r"^[A-Za-z0-9]([A-Za-z0-9 _-]*[A-Za-z0-9])?$")]

ABNORMAL: Final = "Abnormal"  # the binary output, next to the findings, in every record of a model
UNCERTAIN = -1.0  # as CheXpert's tables code it
UNKNOWN = math.nan
OUTSIDE = -2.0  # of a finding that is not in the label set of the image's own data set: unknown as well


class LabelSpace(BaseModel):
    """The labels of a data set, which are the outputs of a model trained on it.

    Args:
        findings: names of the findings in their order: letters, digits, spaces, ``_`` and ``-``, each name once.
        normal: the label of an image on which no finding is present.
        abnormal: name of the binary output: whether any finding is present.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    findings: Annotated[tuple[Finding, ...], Field(min_length=1, max_length=1024)]
    normal: Finding = "No Finding"
    abnormal: Literal["Abnormal"] = ABNORMAL

    @model_validator(mode="after")
    def _distinct(self) -> LabelSpace:
        seen = {self.abnormal.casefold(), self.normal.casefold()}
        for name in self.findings:
            if name.casefold() in seen:
                raise ValueError(f"{name!r} is named twice, or is the name of the normal label or the binary output")
            seen.add(name.casefold())
        return self

    @property
    def outputs(self) -> tuple[str, ...]:
        """What a model predicts, in order: the findings, then the binary output."""
        return (*self.findings, self.abnormal)

    def parse(self, text: str) -> tuple[str, ...]:
        """Read a label text such as ``"Effusion|Mass"``.

        Returns:
            The findings in the order of the label set; empty for the normal label.

        Raises:
            ValueError: the text is empty, names an unknown finding, or joins the normal label to another.
        """
        names = {name.strip() for name in text.split("|")}
        if names == {self.normal}:
            return ()
        if self.normal in names:
            raise ValueError(f"label {text!r} joins {self.normal!r} to a finding")
        unknown = sorted(names.difference(self.findings))
        if unknown:
            known = ", ".join(self.findings)
            raise ValueError(f"unknown finding {unknown[0]!r} in label {text!r}; known are {known}")
        return tuple(finding for finding in self.findings if finding in names)

    def format(self, findings: Sequence[str]) -> str:
        """The inverse of `parse`: ``()`` becomes the normal label."""
        return "|".join(findings) if findings else self.normal

    def values(self, labels: str, uncertain: str | None = None, unknown: str | None = None) -> tuple[float, ...]:
        """The label of each finding: 1 (present), 0 (absent), `UNCERTAIN` or NaN (unknown).

        Args:
            labels: the findings that are present, or the normal label; empty where none is known to be present but
                some are uncertain or unknown.
            uncertain: findings that may be present, separated by ``|``; None or empty for none.
            unknown: findings that are not labeled.

        Raises:
            ValueError: a text is not of this label set, or two of them contradict each other.
        """
        open_labels = [(text, value) for text, value in ((uncertain, UNCERTAIN), (unknown, UNKNOWN)) if text]
        if labels == self.normal and open_labels:
            raise ValueError(f"label {labels!r} contradicts the uncertain or unknown label {open_labels[0][0]!r}")
        values = dict.fromkeys(self.findings, 0.0)
        for text, value in (*([(labels, 1.0)] if labels or not open_labels else []), *open_labels):
            for finding in self.parse(text):
                if values[finding] != 0:
                    raise ValueError(f"{finding!r} has two different labels")
                values[finding] = value
        return tuple(values.values())

    def named(self, values: Sequence[float]) -> tuple[str, ...]:
        """The findings that are present by `values`, or the normal label where all are absent."""
        if not any(values):  # NaN and UNCERTAIN are true
            return (self.normal,)
        return tuple(finding for finding, value in zip(self.findings, values, strict=True) if value == 1)


def union(spaces: Sequence[LabelSpace]) -> LabelSpace:
    """The findings of several label sets, those of the first one first, each once; with the first one's names.

    Raises:
        pydantic.ValidationError: a finding of one is the normal label of the first, or differs from another finding
            in its case alone.
    """
    findings = tuple(dict.fromkeys(finding for space in spaces for finding in space.findings))
    return LabelSpace(findings=findings, normal=spaces[0].normal)


class LabelCounts:
    """How many images have each label; see `add`.

    Args:
        space: the label set.
    """

    def __init__(self, space: LabelSpace) -> None:
        self._space = space
        self._named: Counter[str] = Counter()
        self._open: Counter[str] = Counter()

    def add(self, values: Sequence[float], images: int = 1) -> None:
        """Count images whose labels are `LabelSpace.values`."""
        for name in self._space.named(values):
            self._named[name] += images
        for name, value in zip(self._space.findings, values, strict=True):
            if value not in (0, 1):
                self._open[name] += images

    @property
    def findings(self) -> dict[str, int]:
        """Images on which each finding is present, and normal ones."""
        return {name: self._named[name] for name in (*self._space.findings, self._space.normal)}

    @property
    def open_labels(self) -> dict[str, int]:
        """Images with an uncertain or unknown label, of the findings that have any."""
        return {name: self._open[name] for name in self._space.findings if self._open[name]}


# Wang et al., "ChestX-ray8: Hospital-scale Chest X-ray Database and Benchmarks", CVPR 2017; in the release's order.
NIH = LabelSpace(
    findings=(
        "Atelectasis", "Cardiomegaly", "Effusion", "Infiltration", "Mass", "Nodule", "Pneumonia", "Pneumothorax",
        "Consolidation", "Edema", "Emphysema", "Fibrosis", "Pleural_Thickening", "Hernia",
    )
)  # fmt: skip
