"""The YAML of a recipe as a tree whose values know where they were written.

Trees are merged key by key; a mapping over a list of mappings changes each of its entries; anything else replaces
what was there.
"""

from __future__ import annotations

import copy
import difflib
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from chexvision.config.recipe import known_keys
from chexvision.errors import UsageError
from chexvision.files.atomic import read_regular

_LARGEST = 2**20  # bytes of a file

Tree = dict[str, Any]  # YAML before it is validated; the functions that merge take trees of `Value`


@dataclass(frozen=True, slots=True)
class Value:
    """A value of a tree that is not a mapping or a list, and where it was written."""

    value: Any
    origin: str


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


def read_yaml(path: Path) -> Tree:
    """Read a file of plain values.

    Raises:
        UsageError: it cannot be read, is not YAML, or does not hold a mapping.
    """
    try:
        tree = copy.deepcopy(_parse(read_regular(path, _LARGEST).decode()))
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror or error}") from None
    except ValueError as error:
        raise UsageError(f"{path} is not YAML: {error}") from None
    if not isinstance(tree, dict):
        raise UsageError(f"{path} must hold a mapping of keys, found {type(tree).__name__}")
    return tree


@cache  # a study reads the same files once per run
def _parse(text: str) -> Any:
    """Parse YAML into a tree that is not to be changed.

    Raises:
        ValueError: it is no YAML, has aliases, is nested too deeply or has an impossible value.
    """
    try:
        return yaml.load(text, _Loader)
    except yaml.YAMLError as error:
        raise ValueError(" ".join(str(error).split())) from None
    except RecursionError:
        raise ValueError("it is nested too deeply") from None


def marked(tree: Any, origin: str) -> Any:
    """Plain values as a tree of `Value`, written in `origin`."""
    if isinstance(tree, dict):
        return {key: marked(value, origin) for key, value in tree.items()}
    return [marked(value, origin) for value in tree] if isinstance(tree, list) else Value(tree, origin)


def plain_values(tree: Any) -> Any:
    """A tree of `Value` as the values alone."""
    if isinstance(tree, dict):
        return {key: plain_values(value) for key, value in tree.items()}
    if isinstance(tree, list):
        return [plain_values(value) for value in tree]
    return tree.value if isinstance(tree, Value) else tree


def origins_of(tree: Any, prefix: str = "") -> Iterator[tuple[str, str]]:
    """The dotted key of each value of a tree of `Value`, and where it was written."""
    if isinstance(tree, Value):
        yield prefix, tree.origin
    elif isinstance(tree, dict | list):
        for part, value in tree.items() if isinstance(tree, dict) else enumerate(tree):
            yield from origins_of(value, f"{prefix}.{part}" if prefix else str(part))


def merged(below: Tree, above: Tree) -> Tree:
    """`above` merged into `below`; neither is changed."""
    result = dict(below)
    for key, value in above.items():
        old = result.get(key)
        if isinstance(value, dict) and isinstance(old, dict):
            value = merged(old, value)
        elif isinstance(value, dict) and isinstance(old, list) and all(isinstance(entry, dict) for entry in old):
            value = [merged(entry, value) for entry in old]
        result[key] = value
    return result


def apply_override(tree: Tree, override: str) -> None:
    """Change one value of `tree`, as ``a.b=value`` says.

    Raises:
        UsageError: it does not read so, or there is no such key.
    """
    key, separator, text = override.partition("=")
    if not separator or not key:
        raise UsageError(f"--set {override!r} must read a.b=value, such as --set training.seed=7")
    try:
        value = marked(_parse(text) if text else None, "--set")
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
