"""Recipes on disk: YAML files of ``configs/``, merged and validated into a `Recipe`.

A recipe names what it differs from with ``extends:``; a preset is merged into it; ``--set a.b=c`` comes last. The
result is what a run's bundle holds, as one file of JSON. The section ``about:`` says what a recipe reproduces; it is
not part of the result, and not inherited.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError, model_validator

from chexvision.config.data_config import SPLIT_RULES, DataConfig, DatasetConfig, Section
from chexvision.config.recipe import Recipe, known_keys, upgraded_recipe
from chexvision.errors import ChexError, UsageError
from chexvision.files.json_files import first_problem, read_record
from chexvision.layout import shared_dir
from chexvision.recipe_tree import Tree, apply_override, marked, merged, nearest, origins_of, plain_values, read_yaml

_FORMAT = 2  # of a resolved recipe


class _Resolved(BaseModel):
    model_config = ConfigDict(extra="allow")

    format: int = _FORMAT


class About(Section):
    """What a recipe reproduces: its section ``about:``.

    Args:
        reproduces: which system, in a few words.
        paper: authors, title, venue or year, and a link; None where there is none.
        reported: the published figure; None where none was published.
        split: of the images that figure is of.
        differs: where the recipe has to differ from the original, a sentence each.
        needs: what a user has to set, by key, and how; for values that no recipe can name.
    """

    reproduces: str
    paper: str | None = None
    reported: str | None = None
    split: str | None = None
    differs: tuple[str, ...] = ()
    needs: Mapping[str, str] = {}

    @model_validator(mode="after")
    def _figure_with_its_split(self) -> About:
        if (self.reported is None) != (self.split is None):
            raise ValueError("reported and split belong together: a figure says little without its images")
        return self


@dataclass(frozen=True, slots=True)
class ResolvedRecipe:
    """A recipe with the origin of each of its values.

    Args:
        recipe: all values, validated.
        origins: of each value by its dotted key: a file's name, "preset NAME" or "--set"; a default has none.
        about: what it reproduces.
    """

    recipe: Recipe
    origins: Mapping[str, str]
    about: About | None


def recipe_names() -> list[str]:
    """The recipes that `--model` takes: the files of ``configs/`` itself, all but base."""
    return sorted(path.stem for path in shared_dir("configs").glob("*.yaml") if path.stem != "base")


def preset_names() -> list[str]:
    """The presets that `--preset` takes: files of ``configs/presets/``."""
    return sorted(path.stem for path in (shared_dir("configs") / "presets").glob("*.yaml"))


def load_recipe(model: str, *, preset: str | None = None, overrides: Sequence[str] = ()) -> Recipe:
    """Read, merge and validate a recipe; see `resolve_recipe`."""
    return resolve_recipe(model, preset=preset, overrides=overrides).recipe


def resolve_recipe(model: str, *, preset: str | None = None, overrides: Sequence[str] = ()) -> ResolvedRecipe:
    """Read, merge and validate a recipe, and keep where its values come from.

    Args:
        model: a recipe of ``configs/`` by name ("densenet"), or the path of a YAML file.
        preset: a partial recipe of ``configs/presets/`` that is merged into it, such as "smoke".
        overrides: ``a.b=value`` texts, applied last; values are YAML.

    Raises:
        UsageError: an unknown name or key, a wrong type, an impossible value, or a value that the user has to set.
    """
    path = _find(model, recipe_names(), shared_dir("configs"), "model")
    tree: Tree = {}
    abouts = []
    for file, written in _extended(path, seen=()):
        abouts.append(_about(written.pop("about", None), file))
        tree = _with_data_of(written, merged(tree, marked(written, file.name)))
    if preset is not None:
        presets = shared_dir("configs") / "presets"
        written = read_yaml(_find(preset, preset_names(), presets, "preset"))
        tree = _with_data_of(written, merged(tree, marked(written, f"preset {preset}")))
    for override in overrides:
        apply_override(tree, override)
        section, _, key = override.partition("=")[0].partition(".")
        tree = _with_data_of({section: {key: ...}}, tree)
    tree["name"] = path.stem
    try:
        # Through JSON, where pydantic's strict mode takes an array for a tuple.
        recipe = Recipe.model_validate_json(json.dumps(plain_values(tree)))
    except ValidationError as error:
        needs = {key: text for about in abouts if about for key, text in about.needs.items()}
        raise UsageError(f"recipe {model}: {_explain(error, needs)}") from None
    except (TypeError, ValueError) as error:
        raise UsageError(f"recipe {model}: {error}") from None
    return ResolvedRecipe(recipe, dict(origins_of(tree)), abouts[-1])


def _with_data_of(written: Tree, tree: Tree) -> Tree:
    """`tree` without the data set that a mixture in `written` replaces, or without the mixture that one replaces."""
    data, whole = written.get("data"), tree.get("data")
    if not isinstance(data, dict) or not isinstance(whole, dict):
        return tree
    if data.get("datasets") and not data.get("dataset"):
        return tree | {"data": {"dataset": None} | {key: of for key, of in whole.items() if key != "dataset"}}
    if data.get("dataset") and not data.get("datasets"):
        return tree | {"data": {key: of for key, of in whole.items() if key != "datasets"}}
    return tree


def with_datasets(recipe: Recipe, names: Sequence[str]) -> Recipe:
    """The recipe on one data set or on a mixture, with the weights and splits of those that are in its own mixture.

    Raises:
        UsageError: a data set is named twice.
    """
    own = {one.name: one for one in recipe.data.datasets}
    datasets = [own.get(name) or DatasetConfig(name=name) for name in names]
    several = len(names) > 1
    named = {
        "dataset": None if several else names[0],
        "datasets": [one.model_dump() for one in datasets] if several else [],
        "split": recipe.data.split if several else datasets[0].split or recipe.data.split,
    }
    try:
        data = DataConfig.model_validate_json(json.dumps(recipe.data.model_dump() | named))
    except ValidationError as error:
        raise UsageError(f"--data: {first_problem(error)}") from None
    return recipe.model_copy(update={"data": data})


def load_about(model: str) -> About | None:
    """What a recipe reproduces; None where it does not say.

    Raises:
        UsageError: no such recipe, or the section is not as `About` describes.
    """
    path = _find(model, recipe_names(), shared_dir("configs"), "model")
    return _about(read_yaml(path).get("about"), path)


def _about(tree: Any, path: Path) -> About | None:
    if tree is None:
        return None
    try:
        return About.model_validate_json(json.dumps(tree))
    except ValidationError as error:
        raise UsageError(f"{path}: about: {first_problem(error)}") from None
    except (TypeError, ValueError) as error:
        raise UsageError(f"{path}: about: {error}") from None


def dump_resolved(recipe: Recipe) -> bytes:
    """A resolved recipe as a file; see `read_resolved`."""
    content = {"format": _FORMAT} | recipe.model_dump(mode="json")
    return (json.dumps(content, indent=2, ensure_ascii=False) + "\n").encode()


def read_resolved(path: Path) -> Recipe:
    """Read a resolved recipe: every key is there, and nothing is merged. A split table's path is relative to it.

    Raises:
        UsageError: it cannot be read, is of a later version, or is not a resolved recipe.
    """
    try:
        content = read_record(path, _Resolved)
        if content.format > _FORMAT:
            raise UsageError(
                f"recipe {path} has format {content.format}, this version reads {_FORMAT}; update chexvision"
            )
        recipe = Recipe.model_validate_json(json.dumps(_todays(content)))
    except ValidationError as error:
        raise UsageError(f"recipe {path} cannot be used: {first_problem(error)}") from None
    except UsageError:
        raise
    except ChexError as error:
        raise UsageError(f"recipe {error}") from None
    return recipe.model_copy(update={"data": with_tables(recipe.data, lambda table: str(path.parent / table))})


def with_tables(data: DataConfig, renamed: Callable[[str], str]) -> DataConfig:
    """`data` with another name for each split that is a table."""

    def of(split: str) -> str:
        return split if split in SPLIT_RULES else renamed(split)

    datasets = tuple(one.model_copy(update={"split": one.split and of(one.split)}) for one in data.datasets)
    return data.model_copy(update={"split": of(data.split), "datasets": datasets})


def _todays(content: _Resolved) -> Tree:
    """Format 1 has `pretrained` and `freeze_backbone`."""
    tree = content.model_extra or {}
    if content.format > 1:
        return tree
    try:
        return upgraded_recipe(tree)
    except (KeyError, TypeError, AttributeError, ValueError):
        return tree  # validation names what is wrong


def _find(name: str, known: Sequence[str], folder: Path, what: str) -> Path:
    if name.endswith((".yaml", ".yml")):
        if not Path(name).is_file():
            raise UsageError(f"no recipe file {name}")
        return Path(name)
    if name not in known:
        raise UsageError(f"unknown {what} {name!r}{nearest(name, known)}; known are {', '.join(known)}")
    return folder / f"{name}.yaml"


def _extended(path: Path, seen: tuple[Path, ...]) -> list[tuple[Path, Tree]]:
    """The file and those that it extends, the outermost first."""
    if path.resolve() in seen:
        raise UsageError(f"{path} extends itself: {' -> '.join(p.name for p in (*seen, path))}")
    tree = read_yaml(path)
    parent = tree.pop("extends", None)
    if parent is None:
        return [(path, tree)]
    local = path.parent / f"{parent}.yaml"
    parent_path = local if local.is_file() else shared_dir("configs") / f"{parent}.yaml"
    if not parent_path.is_file():
        raise UsageError(f"{path} extends {parent!r}, but there is no {parent_path}")
    return [*_extended(parent_path, (*seen, path.resolve())), (path, tree)]


def _explain(error: ValidationError, needs: Mapping[str, str]) -> str:
    """The first problem of a pydantic error as one line, with what helps in writing a recipe; see `About.needs`."""
    first = error.errors()[0]
    key = ".".join(str(part) for part in first["loc"])
    if first["type"] == "extra_forbidden":
        return f"unknown key {key!r}{nearest(key, known_keys())}"
    if first["type"] == "missing" and key in needs:
        return f"{key} has to be set: {needs[key]}"
    if first["type"] == "missing":
        return f"key {key!r} is missing; extend a recipe that sets it, such as `extends: base`"
    return first_problem(error)
