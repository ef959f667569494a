"""How another set's labels are read as the 14 findings: files such as ``tables/chexpert.yaml``."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import Field, ValidationError, field_validator, model_validator

from chexvision.errors import UsageError
from chexvision.files.json_files import first_problem
from chexvision.labels import NIH
from chexvision.metrics.records import Record

_TABLES = Path(__file__).with_name("tables")
INCLUDED = ("chexpert", "mimic", "padchest", "vindr", "google2019")


class Target(Record):
    """One thing that both sides know.

    Args:
        any_of: the set's labels, of which one is enough, or one below them in the map's tree.
        findings: ours; the largest of their probabilities is the target's. Left out where the name is ours.
    """

    any_of: tuple[str, ...]
    findings: tuple[str, ...] = ()


class Join(Record):
    """A second table next to the first, whose rows are matched by equal values in the columns `by`."""

    file: str
    by: tuple[str, ...]


class LabelMap(Record):
    """The columns of another set's table, and what its labels mean.

    Args:
        name: of the set.
        image: heads that the column of image files may have.
        image_path: instead, a pattern of the path out of other columns.
        suffix: appended to names without one.
        patient: heads that the column of patients may have; none: every image is a patient of its own.
        patient_pattern: a regular expression whose first group in the image's path is the patient.
        form: "columns", one per label, or "list", one column that names the labels of an image.
        labels: that column's head.
        positive: cells that mean yes.
        negative: cells that mean no; everything else is unknown, blanks too.
        normal: the label of images without any finding; there, blanks mean no. One or several spellings.
        also_abnormal: labels that make an image abnormal without being a target.
        unknown_if: labels of a list that leave everything unknown.
        tree: labels of a list directly below others; a label may be below several. Whoever names a label implies
            those above it, and leaves open those below: a target is positive by a label of its own or below,
            unknown where only a label above is named, and negative else.
        keep: rows to keep, by column.
        join: a table to match first.
        repeats: what to do with several rows of an image.
        targets: by name.
    """

    name: str
    image: tuple[str, ...] = ()
    image_path: str | None = None
    suffix: str = ""
    patient: tuple[str, ...] = ()
    patient_pattern: str | None = None
    form: Literal["columns", "list"]
    labels: str | None = None
    positive: tuple[str, ...] = ("1", "1.0")
    negative: tuple[str, ...] = ("0", "0.0")
    normal: tuple[str, ...] = ()
    also_abnormal: tuple[str, ...] = ()
    unknown_if: tuple[str, ...] = ()
    tree: dict[str, tuple[str, ...]] = Field(default_factory=dict)
    keep: dict[str, tuple[str, ...]] = Field(default_factory=dict)
    join: Join | None = None
    repeats: Literal["refuse", "majority"] = "refuse"
    targets: dict[str, Target]

    @field_validator("normal", mode="before")
    @classmethod
    def _one_spelling(cls, value: Any) -> Any:
        return (value,) if isinstance(value, str) else value

    @model_validator(mode="after")
    def _consistent(self) -> LabelMap:
        if (self.form == "list") != (self.labels is not None):
            raise ValueError("form: list needs labels: the column that names them; form: columns has none")
        if self.tree and self.form != "list":
            raise ValueError("tree: is of the labels of form: list")
        if bool(self.image) == bool(self.image_path):
            raise ValueError("give either image: or image_path:")
        for label in self.tree:
            self.below(label)
        for name in self.targets:
            for finding in self.findings_of(name):
                if finding not in NIH.findings:
                    raise ValueError(f"target {name!r}: {finding!r} is not one of {', '.join(NIH.findings)}")
        return self

    def below(self, label: str) -> frozenset[str]:
        """`label` and all labels below it in the tree.

        Raises:
            ValueError: the tree leads back to a label.
        """
        return frozenset(self._walk(label, ()))

    def above(self, label: str) -> frozenset[str]:
        """All labels above `label` in the tree, without itself."""
        return frozenset(other for other in self.tree if other != label and label in self.below(other))

    def _walk(self, label: str, path: tuple[str, ...]) -> list[str]:
        if label in path:
            raise ValueError(f"tree: {label!r} is below itself")
        return [label, *(one for child in self.tree.get(label, ()) for one in self._walk(child, (*path, label)))]

    def findings_of(self, target: str) -> tuple[str, ...]:
        """Our findings that `target` is predicted from."""
        return self.targets[target].findings or (target,)


def read_label_map(name: str) -> LabelMap:
    """Read an included label map by name, or a file.

    Raises:
        UsageError: there is none, or it is something else.
    """
    path = _TABLES / f"{name}.yaml" if name in INCLUDED else Path(name)
    try:
        return LabelMap.model_validate(yaml.safe_load(path.read_text(encoding="utf-8")))
    except FileNotFoundError:
        raise UsageError(
            f"no label map {name!r}; included are {', '.join(INCLUDED)}, or name a YAML file like these"
        ) from None
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise UsageError(f"label map {path} cannot be read: {error}") from None
    except ValidationError as error:
        raise UsageError(f"label map {path}: {first_problem(error)}") from None
