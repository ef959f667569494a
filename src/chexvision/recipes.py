"""Recipes on disk: YAML files of ``configs/``, merged and validated into a `Recipe`.

A recipe names what it differs from with ``extends:``; a preset is merged into it; ``--set a.b=c`` comes last. The
result is what a run's bundle holds, as one file of JSON.
"""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError

from chexvision.config.data_config import SPLIT_RULES
from chexvision.config.recipe import Recipe, known_keys, upgraded_recipe
from chexvision.errors import ChexError, UsageError
from chexvision.files.atomic import read_regular
from chexvision.files.json_files import first_problem, read_record
from chexvision.layout import shared_dir

_LARGEST = 2**20  # bytes of a recipe
_FORMAT = 2  # of a resolved recipe


class _Resolved(BaseModel):
    model_config = ConfigDict(extra="allow")

    format: int = _FORMAT


class _Loader(yaml.SafeLoader):
    """YAML in which 1e-4 is a number, without aliases, and in which a key is written once.

    A few lines of aliases stand for billions of values; a recipe shares values with another one by `extends`.
    """

    def compose_node(self, parent: Any, index: Any) -> Any:
        if self.check_event(yaml.AliasEvent):
            raise yaml.YAMLError("aliases (*name) are not allowed in a recipe; write the value, or use extends")
        return super().compose_node(parent, index)

    def construct_mapping(self, node: Any, deep: bool = False) -> dict[Any, Any]:
        written = [key.value for key, _ in node.value if isinstance(key, yaml.ScalarNode)]
        twice = next((key for number, key in enumerate(written) if key in written[:number]), None)
        if twice is not None:
            raise yaml.YAMLError(f"the key {twice!r} is written twice in one mapping")
        return super().construct_mapping(node, deep)


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"^[-+]?(\d+\.?\d*|\.\d+)[eE][-+]?\d+$"), list("-+0123456789.")
)

Tree = dict[str, Any]  # YAML before it is validated


def recipe_names() -> list[str]:
    """The recipes that `--model` takes: files of ``configs/`` that stand on their own."""
    return sorted(
        path.stem
        for path in shared_dir("configs").glob("*.yaml")
        if "model" in read_yaml(path) and path.stem != "base"
    )


def preset_names() -> list[str]:
    """The presets that `--preset` takes: files of ``configs/presets/``."""
    return sorted(path.stem for path in (shared_dir("configs") / "presets").glob("*.yaml"))


def load_recipe(model: str, *, preset: str | None = None, overrides: Sequence[str] = ()) -> Recipe:
    """Read, merge and validate a recipe.

    Args:
        model: a recipe of ``configs/`` by name ("densenet"), or the path of a YAML file.
        preset: a partial recipe of ``configs/presets/`` that is merged into it, such as "smoke".
        overrides: ``a.b=value`` texts, applied last; values are YAML.

    Raises:
        UsageError: an unknown name or key, a wrong type or an impossible value.
    """
    path = _find(model, recipe_names(), shared_dir("configs"), "model")
    tree = _read_extended(path, seen=())
    if preset is not None:
        presets = shared_dir("configs") / "presets"
        tree = _merge(tree, read_yaml(_find(preset, preset_names(), presets, "preset")))
    for override in overrides:
        _apply_override(tree, override)
    tree["name"] = path.stem
    tree.pop("about", None)
    try:
        # Through JSON, where pydantic's strict mode takes an array for a tuple.
        return Recipe.model_validate_json(json.dumps(tree))
    except ValidationError as error:
        raise UsageError(f"recipe {model}: {_explain(error)}") from None
    except (TypeError, ValueError) as error:
        raise UsageError(f"recipe {model}: {error}") from None


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
    if recipe.data.split in SPLIT_RULES:
        return recipe
    data = recipe.data.model_copy(update={"split": str(path.parent / recipe.data.split)})
    return recipe.model_copy(update={"data": data})


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


def read_yaml(path: Path) -> Tree:
    try:
        tree = _parse(read_regular(path, _LARGEST).decode())
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror or error}") from None
    except ValueError as error:
        raise UsageError(f"{path} is not YAML: {error}") from None
    if not isinstance(tree, dict):
        raise UsageError(f"{path} must hold a mapping of keys, found {type(tree).__name__}")
    return tree


def _parse(text: str) -> Any:
    """Parse YAML; raises ValueError where it is not, has aliases, is nested too deeply or has an impossible value."""
    try:
        return yaml.load(text, _Loader)
    except yaml.YAMLError as error:
        raise ValueError(" ".join(str(error).split())) from None
    except RecursionError:
        raise ValueError("it is nested too deeply") from None


def _read_extended(path: Path, seen: tuple[Path, ...]) -> Tree:
    if path.resolve() in seen:
        raise UsageError(f"{path} extends itself: {' -> '.join(p.name for p in (*seen, path))}")
    tree = read_yaml(path)
    parent = tree.pop("extends", None)
    if parent is None:
        return tree
    local = path.parent / f"{parent}.yaml"
    parent_path = local if local.is_file() else shared_dir("configs") / f"{parent}.yaml"
    if not parent_path.is_file():
        raise UsageError(f"{path} extends {parent!r}, but there is no {parent_path}")
    return _merge(_read_extended(parent_path, (*seen, path.resolve())), tree)


def _merge(below: Tree, above: Tree) -> Tree:
    """`above` merged into `below`: mappings merge key by key, anything else is replaced."""
    merged = dict(below)
    for key, value in above.items():
        both = isinstance(value, dict) and isinstance(merged.get(key), dict)
        merged[key] = _merge(merged[key], value) if both else value
    return merged


def _apply_override(tree: Tree, override: str) -> None:
    key, separator, text = override.partition("=")
    if not separator or not key:
        raise UsageError(f"--set {override!r} must read a.b=value, such as --set training.seed=7")
    try:
        value = _parse(text) if text else None
    except ValueError as error:
        raise UsageError(f"--set {override!r}: the value is not YAML: {error}") from None
    *parents, last = key.split(".")
    node: Any = tree
    for depth, part in enumerate(parents):
        child = _child(node, part)
        if child is None:
            missing = ".".join(parents[: depth + 1])
            raise UsageError(f"unknown key {missing!r}{nearest(missing, known_keys())}")
        node = child
    if isinstance(node, list):
        if not last.isdecimal() or int(last) >= len(node):
            raise UsageError(f"--set {override!r}: {'.'.join(parents)} has {len(node)} entries, numbered from 0")
        node[int(last)] = value
    elif isinstance(node, dict):
        node[last] = value
    else:
        raise UsageError(f"--set {override!r}: {'.'.join(parents)} is a value, it has no key {last!r}")


def _child(node: Any, part: str) -> Any:
    if isinstance(node, list) and part.isdecimal() and int(part) < len(node):
        return node[int(part)]
    return node.get(part) if isinstance(node, dict) else None


def _explain(error: ValidationError) -> str:
    """The first problem of a pydantic error as one line, with what helps in writing a recipe."""
    first = error.errors()[0]
    key = ".".join(str(part) for part in first["loc"])
    if first["type"] == "extra_forbidden":
        return f"unknown key {key!r}{nearest(key, known_keys())}"
    if first["type"] == "missing":
        return f"key {key!r} is missing; extend a recipe that sets it, such as `extends: base`"
    return first_problem(error)


def nearest(name: str, known: Iterable[str]) -> str:
    """ "; did you mean 'x'?" for the known name closest to `name`, or nothing."""
    candidates = list(known)
    parent, _, last = name.rpartition(".")
    siblings = {key.rpartition(".")[2]: key for key in candidates if key.rpartition(".")[0] == parent}
    anywhere = {key.rpartition(".")[2]: key for key in candidates}
    # A typo within the section first, then a key put into the wrong one.
    for by_last_part, cutoff in ((siblings, 0.4), (anywhere, 0.6)):
        close = difflib.get_close_matches(last, by_last_part, n=1, cutoff=cutoff)
        if close:
            return f"; did you mean {by_last_part[close[0]]!r}?"
    return ""
