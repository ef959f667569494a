"""Untrusted recipes in `dispatch` and `train`."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.hostile.conftest import Refuses

BOMB = "a: &a [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{name}: &{name} [{', '.join([f'*{last}'] * 9)}]\n" for last, name in zip("abcdefgh", "bcdefghi", strict=True)
)
RECIPES: dict[str, tuple[str | bytes, str]] = {
    "alias bomb": (BOMB, "aliases"),
    "alias cycle": ("extends: densenet\nmodel: &m {backbone: *m}\n", "aliases"),
    "python object": ("!!python/object/apply:os.system ['touch outside']\n", "is not YAML"),
    "python name": ("extends: densenet\nname: !!python/name:os.system\n", "is not YAML"),
    "binary": ("extends: densenet\ndata: {dataset: !!binary aGVsbG8=}\n", "not JSON serializable"),
    "set": ("extends: densenet\ndata: {dataset: !!set {a, b}}\n", "not JSON serializable"),
    "NaN": ("extends: densenet\noptim: {clip_norm: .nan}\n", "optim.clip_norm"),
    "infinity": ("extends: densenet\noptim: {clip_norm: 1e999}\n", "optim.clip_norm"),
    "huge number": ("extends: densenet\ntraining: {seed: " + "9" * 5000 + "}\n", "is not YAML"),
    "huge batch": ("extends: densenet\ntraining: {seed: 99999999999999999999}\n", "training.seed"),
    "impossible date": ("extends: densenet\nname: 2026-99-99\n", "month must be in"),
    "deep lists": ("extends: densenet\nmodel: " + "[" * 3_000, "nested"),
    "deep mappings": ("a: {" * 3_000, "nested"),
    "large": ("# comment\n" * 200_000, "more than"),
    "key twice": ("extends: densenet\ntraining: {seed: 1, seed: 2}\n", "the key 'seed' is written twice"),
    "list": ("- 1\n- 2\n", "must hold a mapping"),
    "empty": ("", "must hold a mapping"),
    "binary file": (bytes(range(256)), "is not YAML"),
    "extends itself": ("extends: recipe\n", "extends itself"),
    "outside": ("extends: ../../../../etc/passwd\n", "there is no"),
    "extends a list": ("extends: [1, 2]\n", "extends"),
    "extends NUL": ('extends: "a\\0b"\n', "extends"),
    "escape sequence": ('extends: densenet\n"\\e[31mred": 1\n', "unknown key"),
    "a mapping for a number": ("extends: densenet\ntraining: {seed: {a: 1}}\n", "training.seed"),
    "a list for a section": ("extends: densenet\ndata: [1]\n", "data"),
}


@pytest.mark.parametrize(("command", "name"), [*(("dispatch", name) for name in RECIPES), ("train", "alias bomb")])
def test_an_invalid_recipe_is_refused(command: str, name: str, tmp_path: Path, refuses: Refuses) -> None:
    content, message = RECIPES[name]
    recipe = tmp_path / "recipe.yaml"
    recipe.write_bytes(content if isinstance(content, bytes) else content.encode())
    more = ["--on", "local", "--dry-run"] if command == "dispatch" else []
    assert message in refuses(command, "--model", recipe, *more, codes=(2,))


@pytest.mark.parametrize("kind", ["folder", "fifo", "device", "link to itself"])
def test_a_recipe_that_is_not_a_file_is_refused(kind: str, tmp_path: Path, refuses: Refuses) -> None:
    recipe = tmp_path / "recipe.yaml"
    if kind == "folder":
        recipe.mkdir()
    elif kind == "fifo":
        os.mkfifo(recipe)
    else:
        recipe.symlink_to("/dev/zero" if kind == "device" else recipe)
    line = refuses("dispatch", "--model", recipe, "--on", "local", "--dry-run", codes=(2,))
    assert "recipe.yaml" in line


@pytest.mark.parametrize(
    "override",
    ["training.seed=&a [*a]", "training.seed=!!python/object:os.x {}", "training.seed=" + "[" * 3_000,
     "training.seed=" + "9" * 5000, "training.phases.99.lr=1", "training.phases.²=1", "=1", "a..b=1"],
    ids=["alias", "python object", "deep", "huge", "no such phase", "superscript", "no key", "no part"],
)  # fmt: skip
def test_an_invalid_override_is_refused(override: str, refuses: Refuses) -> None:
    refuses("dispatch", "--model", "densenet", "--set", override, "--on", "local", "--dry-run", codes=(2,))
