"""The documented commands exist with the documented options, and links between documents point to files."""

from __future__ import annotations

import re
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
import typer

from chexvision.cli import app, register
from chexvision_dispatch.targets.registry import TARGETS, flag, target_class

ROOT = Path(__file__).resolve().parent.parent
DOCUMENTS = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")])


def commands(text: str) -> Iterator[str]:
    """The lines of code blocks that start with `chexvision`, without their comments."""
    for block in re.findall(r"^```(?:bash|console)\n(.*?)^```", text, re.MULTILINE | re.DOTALL):
        for line in block.splitlines():
            if line.removeprefix("$ ").startswith("chexvision "):
                yield line.removeprefix("$ ").partition("  #")[0]


@pytest.fixture(scope="module")
def root() -> Any:
    if not app.registered_commands:
        register.commands(app)
    return typer.main.get_command(app)


def test_documented_commands_and_options_exist(root: Any) -> None:
    found = [(path.name, line) for path in DOCUMENTS for line in commands(path.read_text(encoding="utf-8"))]
    assert len(found) > 40
    for name, line in found:
        command = root
        words = line.split()[1:]
        while words and words[0] in getattr(command, "commands", {}):
            command = command.commands[words.pop(0)]
        if default := getattr(command, "default_command", None):
            command = command.commands[default]
        params = command.get_params(command.context_class(command))
        known = {option for param in params for option in (*param.opts, *param.secondary_opts)}
        used = {word.partition("=")[0] for word in words if re.match(r"--?[a-z]", word)}
        assert used <= known, f"{name}: {line}"
        assert command is not root, f"{name}: {line}"


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_links_point_to_files(document: Path) -> None:
    for target in re.findall(r"\]\((?!https?:)([^)#]+)", document.read_text(encoding="utf-8")):
        assert (document.parent / target).exists(), target


def test_generated_commands_page_has_the_options_of_every_target(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(ROOT / "docs"))
    page = import_module("site_pages")._commands()
    trained = page.partition("## chexvision dispatch\n")[2].partition("\n## ")[0]
    for target in TARGETS:
        for name in target_class(target).Options.model_fields:
            assert f"{flag(name)} " in trained or f"{flag(name)}`" in trained, name
    assert "--help" not in page
