"""Study files: a base recipe, named variants of it, grids and seeds, expanded into runs and validated at once."""

from __future__ import annotations

import hashlib
import itertools
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from chexvision.config.recipe import Recipe
from chexvision.config.test_time import Tta
from chexvision.errors import UsageError
from chexvision.files.json_files import first_problem
from chexvision.layout import shared_dir
from chexvision.provenance import slug
from chexvision.recipe_tree import nearest, read_yaml
from chexvision.recipes import dump_resolved, load_recipe
from chexvision_dispatch.studies.leave_one_out import left_out_changes

BASE = "base"  # the name of the recipe as it is, which every variant is compared with
SEED = "training.seed"
_MOST_RUNS = 256  # a typing error in a grid multiplies


class Evaluation(BaseModel):
    """How a variant is evaluated where that differs from the end of training, which sees each test image once.

    Args:
        tta: that of `chexvision evaluate --tta`.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    tta: Tta = "none"


@dataclass(frozen=True, slots=True)
class StudyRun:
    """One variant with one seed.

    Args:
        name: unique in the study, such as ``resnet50 lr=0.0001 seed=2``.
        variant: the same without the seed: a row of the table.
        model: the recipe that was named.
        preset: see `load_recipe`, as are the overrides.
        overrides: ``a.b=value`` texts.
        recipe: the same, read and validated.
        evaluation: None where the metrics of the end of training count.
        left_out: the data set of the base's mixture that it is trained without, as the recipe names it.
    """

    name: str
    variant: str
    model: str
    preset: str | None
    overrides: tuple[str, ...]
    recipe: Recipe
    evaluation: Evaluation | None = None
    left_out: str | None = None

    def key(self, data: str) -> str:
        """Equal for runs that train the same, whatever their names; `data` is the dataset at its commit."""
        resolved = dump_resolved(self.recipe.model_copy(update={"name": ""}))
        return hashlib.sha256(resolved + data.encode()).hexdigest()


@dataclass(frozen=True, slots=True)
class Study:
    """All runs of a study; those of the variant `BASE` come first.

    Args:
        name: of its file, or made of what is trained.
        runs: in the order of the file.
        published_as: names the default repository of its runs.
    """

    name: str
    runs: tuple[StudyRun, ...]
    published_as: str

    @property
    def variants(self) -> list[str]:
        """The names of the variants, the base first."""
        return list(dict.fromkeys(run.variant for run in self.runs))

    def of(self, variant: str) -> list[StudyRun]:
        """The runs of a variant, one per seed."""
        return [run for run in self.runs if run.variant == variant]


class _Changes(BaseModel):
    """A variant: a recipe, if it is another one, and what is changed in it."""

    recipe: str | None = None
    changes: dict[str, Any] = Field(default_factory=dict, alias="set")
    grid: dict[str, list[Any]] | None = None
    evaluate: Evaluation | None = None
    left_out: str | None = None  # of the study's own making

    model_config = ConfigDict(extra="forbid", frozen=True)


class _File(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    recipe: str
    preset: str | None = None
    changes: dict[str, Any] = Field(default_factory=dict, alias="set")
    variants: dict[str, Any] = Field(default_factory=dict)
    grid: dict[str, list[Any]] = Field(default_factory=dict)
    seeds: list[int] = Field(default_factory=list)
    leave_one_out: Literal["data.datasets"] | None = None

    @model_validator(mode="after")
    def _alone(self) -> _File:
        if self.leave_one_out is not None and (self.variants or self.grid):
            raise ValueError("leave_one_out makes the variants; leave out variants and grid")
        return self


def study_names() -> list[str]:
    """The studies of ``configs/studies/``."""
    return sorted(path.stem for path in (shared_dir("configs") / "studies").glob("*.yaml"))


def read_study(text: str, *, preset: str | None = None, overrides: Sequence[str] = ()) -> Study:
    """Read a study file and validate every run of it.

    Args:
        text: a study of ``configs/studies/`` by name, or the path of a YAML file.
        preset: merged into every recipe, in place of the file's own.
        overrides: ``a.b=value`` texts for every run, applied last.

    Raises:
        UsageError: the file is not a study, a variant's recipe cannot be, or two runs have one name.
    """
    path = _find(text)
    tree = read_yaml(path)
    if not slug(path.stem):
        raise UsageError(f"study {path}: the file's name has neither letters nor digits; rename it")
    try:
        json.dumps(tree)  # a date, for example, is no value of a recipe
        file = _File.model_validate(tree)
    except ValidationError as error:
        raise UsageError(f"study {path}: {_problem(error, _File)}") from None
    except (TypeError, ValueError) as error:
        raise UsageError(f"study {path}: {error}; put such a value in quotes") from None
    if BASE in file.variants:
        raise UsageError(f"study {path}: {BASE!r} is the recipe as it is; choose another name for the variant")
    variants = {BASE: _Changes(grid={})} | {name: _variant(path, name, of) for name, of in file.variants.items()}
    if file.leave_one_out is not None:
        variants |= _left_out(path, file, preset, overrides)
    if not file.variants and file.grid:
        variants[_GRID] = _Changes()
    _check_count(path, file, variants.values())
    runs = list[StudyRun]()
    for name, of in variants.items():
        for point in _grid(path, file.grid if of.grid is None else of.grid):
            called = " ".join(filter(None, ["" if name == _GRID else name, *_labels(point)]))
            changes = [*_texts(file.changes), *_texts(of.changes), *_texts(point), *overrides]
            if of.left_out is not None:  # after an override that names the mixture
                changes += _texts(of.changes)
            runs += _with_seeds(path, called, of, file, preset, changes)
    _check_names(path, runs)
    return Study(slug(path.stem), tuple(runs), path.stem)


def seeds_study(
    model: str, count: int, *, preset: str | None, overrides: Sequence[str], data: str | None, to: str | None
) -> Study:
    """The recipe with `count` seeds, from its own one upwards; equal requests have one name.

    Raises:
        UsageError: see `load_recipe`.
    """
    first = load_recipe(model, preset=preset, overrides=overrides).training.seed
    runs = []
    for seed in range(first, first + count):
        changes = (*overrides, f"{SEED}={seed}")
        recipe = load_recipe(model, preset=preset, overrides=changes)
        runs.append(StudyRun(f"{BASE} seed={seed}", BASE, model, preset, changes, recipe))
    asked = json.dumps([run.key(data or "") for run in runs] + [to])
    name = f"{slug(Path(model).stem)}-{count}-seeds-{hashlib.sha256(asked.encode()).hexdigest()[:8]}"
    return Study(name, tuple(runs), Path(model).stem)


def _find(text: str) -> Path:
    if text.endswith((".yaml", ".yml")):
        if not Path(text).is_file():
            raise UsageError(f"no study file {text}; known studies are {', '.join(study_names())}")
        return Path(text)
    if text not in study_names():
        raise UsageError(
            f"unknown study {text!r}{nearest(text, study_names())}; known are {', '.join(study_names())}"
        )
    return shared_dir("configs") / "studies" / f"{text}.yaml"


def _variant(path: Path, name: str, written: Any) -> _Changes:
    """A variant as it is written: another recipe's name, or a mapping in which keys with a dot are recipe keys."""
    if isinstance(written, str):
        return _Changes(recipe=written)
    if not isinstance(written, dict):
        raise UsageError(
            f"study {path}, variant {name!r}: write a recipe's name, or a mapping such as {{loss.name: focal}}"
        )
    own = {key: value for key, value in written.items() if key in _KEYS}
    changes = {key: value for key, value in written.items() if key not in _KEYS}
    for key in changes:
        if not isinstance(key, str) or "." not in key:
            raise UsageError(f"study {path}, variant {name!r}: unknown key {key!r}{nearest(str(key), _KEYS)}")
    try:
        return _Changes.model_validate({**own, "set": changes})
    except ValidationError as error:
        raise UsageError(f"study {path}, variant {name!r}: {_problem(error, _Changes)}") from None


_KEYS = ("recipe", "grid", "evaluate")
_GRID = " "  # the name of the variants of a grid alone, which are called by its values


def _left_out(path: Path, file: _File, preset: str | None, overrides: Sequence[str]) -> dict[str, _Changes]:
    """A variant without each data set of the recipe's mixture."""
    words = [*_texts(file.changes), *overrides]
    try:
        recipe = load_recipe(file.recipe, preset=preset or file.preset, overrides=words)
        found = left_out_changes(recipe)
    except UsageError as error:
        raise UsageError(f"study {path}: {error}") from None
    return {name: _Changes(set=dict(changes), left_out=of) for name, (of, changes) in found.items()}


def _grid(path: Path, grid: Mapping[str, list[Any]]) -> list[dict[str, Any]]:
    """All combinations of the values of a grid; one without changes where there is none."""
    for key, values in grid.items():
        if not values:
            raise UsageError(f"study {path}: grid key {key!r} has no values")
    return [dict(zip(grid, values, strict=True)) for values in itertools.product(*grid.values())]


def _labels(point: Mapping[str, Any]) -> Iterable[str]:
    """``lr=0.0001`` for each key of a grid's point; as much of the key as tells it from the others.

    Of `loss.name` and `data.clahe.enabled` the last word says nothing: they become ``loss=bce`` and ``clahe=true``.
    """
    point = {key.removesuffix(".name").removesuffix(".enabled"): value for key, value in point.items()}
    for key, value in point.items():
        parts = key.split(".")
        ends = [".".join(parts[-length:]) for length in range(1, len(parts) + 1)]
        short = next(end for end in ends if sum(f".{other}".endswith(f".{end}") for other in point) == 1)
        yield f"{short}={value:g}" if isinstance(value, float) else f"{short}={json.dumps(value)}".replace('"', "")


def _texts(changes: Mapping[str, Any]) -> list[str]:
    return [f"{key}={json.dumps(value)}" for key, value in changes.items()]


def _with_seeds(
    path: Path, name: str, of: _Changes, file: _File, preset: str | None, changes: Sequence[str]
) -> list[StudyRun]:
    """The runs of one variant, one per seed."""
    runs = []
    model, preset = of.recipe or file.recipe, preset or file.preset
    seeds: list[int | None] = [*file.seeds] or [None]
    for seed in seeds:
        words = (*changes, *([] if seed is None else [f"{SEED}={seed}"]))
        called = name if seed is None else f"{name} seed={seed}"
        try:
            recipe = load_recipe(model, preset=preset, overrides=words)
        except UsageError as error:
            raise UsageError(f"study {path}, variant {called!r}: {error}") from None
        runs.append(StudyRun(called, name, model, preset, words, recipe, of.evaluate, of.left_out))
    return runs


def _check_count(path: Path, file: _File, variants: Iterable[_Changes]) -> None:
    """Before the runs are listed: a few lines of a grid stand for billions."""
    grids = [file.grid if of.grid is None else of.grid for of in variants]
    count = sum(math.prod(map(len, grid.values())) for grid in grids) * max(1, len(file.seeds))
    if count > _MOST_RUNS:
        raise UsageError(f"study {path} has {count} runs, at most {_MOST_RUNS} are allowed; shorten its grid")


def _check_names(path: Path, runs: Sequence[StudyRun]) -> None:
    known: dict[str, str] = {}
    for run in runs:
        name = slug(run.name)
        if not name:
            raise UsageError(f"study {path}: the name {run.name!r} has neither letters nor digits")
        if name in known:
            raise UsageError(
                f"study {path}: {run.name!r} and {known[name]!r} are one name ({name}); rename a variant, or remove "
                "a value that is twice in the grid or among the seeds"
            )
        known[name] = run.name


def _problem(error: ValidationError, of: type[BaseModel]) -> str:
    """The first problem of a mapping, with the known key nearest to an unknown one."""
    first = error.errors()[0]
    if first["type"] == "extra_forbidden":
        key = str(first["loc"][-1])
        fields = Evaluation.model_fields if "evaluate" in first["loc"] else of.model_fields
        names = [field.alias or name for name, field in fields.items()]
        return f"unknown key {key!r}{nearest(key, names)}; known are {', '.join(names)}"
    return first_problem(error)
