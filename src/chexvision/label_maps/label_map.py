"""What the columns of a table of labels mean: files such as ``tables/chexpert.yaml``, of other sets or one's own."""

from __future__ import annotations

import re
from pathlib import Path
from string import Formatter
from typing import Annotated, Any, Literal, TypeAlias

import yaml
from pydantic import BeforeValidator, Field, ValidationError, model_validator

from chexvision.errors import UsageError
from chexvision.files.atomic import read_regular
from chexvision.files.json_files import first_problem
from chexvision.labels import LabelSpace
from chexvision.metrics.records import Record

_TABLES = Path(__file__).with_name("tables")
_LARGEST = 2**20  # bytes
_SPEC = re.compile(r"(.?[<>^])?\d{0,3}(\.\d{1,3})?")  # width and precision
INCLUDED = ("chexpert", "mimic", "padchest", "vindr", "google2019")


def _texts(value: Any) -> Any:
    """YAML reads 1 as a number and yes as true; in tables both are texts."""
    values = value if isinstance(value, list | tuple) else [value]
    if any(isinstance(one, bool) for one in values):
        raise ValueError("yes, no, true, false and on, off need quotes here")
    return [str(one) if isinstance(one, int | float) else one for one in values]


Texts: TypeAlias = Annotated[tuple[str, ...], BeforeValidator(_texts)]


class Target(Record):
    """One finding of the table.

    Args:
        any_of: the set's labels, of which one is enough, or one below them in the map's tree.
        findings: of an evaluated model that does not predict the target itself; the largest of their probabilities is
            the target's. Left out where there are none.
    """

    any_of: Annotated[Texts, Field(min_length=1)]
    findings: Texts = ()


class Join(Record):
    """A second table next to the first, whose rows are matched by equal values in the columns `by`."""

    file: str
    by: tuple[str, ...]


class LabelMap(Record):
    """The columns of a table, and what its labels mean.

    Evaluation reads `targets` as the labels of other images. Shards are built with them as their label set, in this
    order.

    Args:
        name: of the set.
        image: heads that the column of image files may have.
        image_path: instead, a pattern of the path out of other columns.
        suffix: appended to names without one.
        patient: heads that the column of patients may have; none: every image is a patient of its own.
        patient_pattern: a regular expression whose first group in the image's path is the patient.
        form: "columns", one per label, or "list", one column that names the labels of an image.
        labels: that column's head.
        separator: between the labels of a list.
        positive: cells that mean yes; upper and lower case are the same.
        negative: cells that mean no. Everything else is unknown, blanks too.
        uncertain: cells that mean maybe; shards keep them as uncertain, in evaluation they are unknown.
        normal: the label of images without any finding; there, blanks mean no. One or several spellings.
        also_abnormal: labels that make an image abnormal without being a target. Shards cannot store this: there such
            an image without any target is unknown.
        unknown_if: labels of a list that leave everything unknown; cells of columns that are as good as blank.
        rest: (shards, lists) name of a finding that stands for all labels that are in no target, so that images which
            show nothing else are neither normal nor unknown.
        tree: labels of a list directly below others; a label may be below several. Whoever names a label implies
            those above it, and leaves open those below: a target is positive by a label of its own or below,
            unknown where only a label above is named, and negative else.
        keep: rows to keep, by column.
        join: a table to match first.
        repeats: what to do with several rows of an image.
        split: (shards) heads that a column with train, validation or test may have; none: patients are divided.
        age: (shards) heads of a column with years.
        sex: (shards) heads of a column with M or F.
        view: (shards) heads of a column with PA, AP or lateral.
        targets: by name.
    """

    name: str
    image: Texts = ()
    image_path: str | None = None
    suffix: str = ""
    patient: Texts = ()
    patient_pattern: str | None = None
    form: Literal["columns", "list"]
    labels: str | None = None
    separator: Annotated[str, Field(min_length=1)] = ","
    positive: Texts = ("1", "1.0")
    negative: Texts = ("0", "0.0")
    uncertain: Texts = ("-1", "-1.0")
    normal: Texts = ()
    also_abnormal: Texts = ()
    unknown_if: Texts = ()
    rest: str | None = None
    tree: dict[str, Texts] = Field(default_factory=dict)
    keep: dict[str, Texts] = Field(default_factory=dict)
    join: Join | None = None
    repeats: Literal["refuse", "majority"] = "refuse"
    split: Texts = ()
    age: Texts = ()
    sex: Texts = ()
    view: Texts = ()
    targets: Annotated[dict[str, Target], Field(min_length=1)]

    @model_validator(mode="after")
    def _consistent(self) -> LabelMap:
        if (self.form == "list") != (self.labels is not None):
            raise ValueError("form: list needs labels: the column that names them; form: columns has none")
        if (self.tree or self.rest) and self.form != "list":
            raise ValueError(f"{'tree' if self.tree else 'rest'}: is of the labels of form: list")
        try:
            if re.compile(self.patient_pattern or "()").groups < 1:
                raise ValueError("patient_pattern has no group: put parentheses around the patient")
        except re.error as error:
            raise ValueError(f"patient_pattern is not a regular expression: {error}") from None
        if bool(self.image) == bool(self.image_path):
            raise ValueError("give either image: or image_path:")
        _check_pattern(self.image_path or "")
        for label in self.tree:
            self.below(label)
        meanings: dict[str, str] = {}
        for meaning in ("positive", "negative", "uncertain", *(("unknown_if",) if self.form == "columns" else ())):
            for cell in getattr(self, meaning):
                if meanings.setdefault(cell.casefold(), meaning) != meaning:
                    raise ValueError(f"{cell!r} is both {meanings[cell.casefold()]} and {meaning}")
        return self

    @property
    def label_space(self) -> LabelSpace:
        """The targets as the label set of shards.

        Raises:
            ValidationError: a name cannot be a finding's.
        """
        names = (*self.targets, *((self.rest,) if self.rest else ()))
        return LabelSpace(findings=names, normal=self.normal[0]) if self.normal else LabelSpace(findings=names)

    @property
    def names_patients(self) -> bool:
        """Whether it says which images are of one person."""
        return bool(self.patient or self.patient_pattern)

    def below(self, label: str) -> frozenset[str]:
        """`label` and all labels below it in the tree.

        Raises:
            ValueError: the tree leads back to a label.
        """
        found: set[str] = set()
        waiting = [label]
        while waiting:
            children = set(self.tree.get(waiting.pop(), ())) - found
            found |= children
            waiting += children
        if label in found:
            raise ValueError(f"tree: {label!r} is below itself")
        return frozenset({label, *found})

    def above(self, label: str) -> frozenset[str]:
        """All labels above `label` in the tree, without itself."""
        return frozenset(other for other in self.tree if other != label and label in self.below(other))

    def for_model(self, space: LabelSpace) -> tuple[LabelMap, tuple[str, ...]]:
        """The map with the targets that a model can predict, and the names of the others.

        A target is predicted by the finding of its name if the model has one, else by its `findings`. The labels of
        other targets still make an image abnormal.

        Args:
            space: what the model predicts.

        Raises:
            UsageError: there are none.
        """
        kept = {
            name: target if name not in space.findings else Target(any_of=target.any_of)
            for name, target in self.targets.items()
            if name in space.findings or (target.findings and set(target.findings) <= set(space.findings))
        }
        lacking = tuple(name for name in self.targets if name not in kept)
        if not kept:
            raise UsageError(
                f"none of the targets of label map {self.name} is a finding of the model "
                f"({', '.join(space.findings)}); name the model's with findings: of each target"
            )
        abnormal = (*self.also_abnormal, *(label for name in lacking for label in self.targets[name].any_of))
        return self.model_copy(update={"targets": kept, "also_abnormal": abnormal}), lacking

    def findings_of(self, target: str) -> tuple[str, ...]:
        """The model's findings that `target` is predicted from."""
        return self.targets[target].findings or (target,)


def _check_pattern(image_path: str) -> None:
    """Raise ValueError where a pattern does more than to put columns into a path, such as pad them to a gigabyte."""
    try:
        specs = [spec for _, field, spec, _ in Formatter().parse(image_path) if field is not None]
    except ValueError as error:
        raise ValueError(f"image_path {image_path!r} is not a pattern: {error}") from None
    odd = next((spec for spec in specs if not _SPEC.fullmatch(spec or "")), None)
    if odd is not None:
        raise ValueError(f"image_path: the format {odd!r} is not one of a text, such as :.2 or :0>8")


def label_map_path(name: str) -> Path:
    """The file of an included label map, or of one's own."""
    return _TABLES / f"{name}.yaml" if name in INCLUDED else Path(name)


def read_label_map(name: str) -> LabelMap:
    """Read an included label map by name, or a file.

    Raises:
        UsageError: there is none, or it is something else.
    """
    path = label_map_path(name)
    try:
        return LabelMap.model_validate(yaml.safe_load(read_regular(path, _LARGEST).decode("utf-8")))
    except FileNotFoundError:
        raise UsageError(
            f"no label map {name!r}; included are {', '.join(INCLUDED)}, or name a YAML file like these"
        ) from None
    except OSError as error:
        raise UsageError(f"label map {path} cannot be read: {error.strerror or error}") from None
    except (UnicodeDecodeError, yaml.YAMLError) as error:
        raise UsageError(f"label map {path} cannot be read: {error}") from None
    except RecursionError:
        raise UsageError(f"label map {path} cannot be read: it is nested too deeply") from None
    except ValidationError as error:
        raise UsageError(f"label map {path}: {first_problem(error)}") from None
