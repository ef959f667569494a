"""The documented commands exist with the documented options, and links between documents point to files."""

from __future__ import annotations

import re
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml

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


def test_workflows_use_commands_that_exist_and_pass_inputs_by_the_environment(root: Any) -> None:
    """A value of an input that was put into a script's text could be code."""
    used = 0
    for path in sorted((ROOT / ".github" / "workflows").glob("*.yml")):
        for job in yaml.safe_load(path.read_text(encoding="utf-8"))["jobs"].values():
            for step in job["steps"]:
                script = step.get("run", "")
                assert not re.search(r"\$\{\{(?! *matrix\.)", script), path.name
                for words in re.findall(r"bin/chexvision ([^\n]*)", script.replace("\\\n", " ")):
                    command, *rest = _command(root, words.split())
                    known = {option for param in command.params for option in param.opts + param.secondary_opts}
                    options = {word.partition("=")[0] for word in rest if word.startswith("--")}
                    assert options <= known, f"{path.name}: {words}"
                    used += 1
    assert used >= 3


def test_the_space_workflow_is_pinned_and_may_only_read(root: Any) -> None:
    workflow = yaml.safe_load((ROOT / ".github/workflows/space.yml").read_text(encoding="utf-8"))
    assert workflow["permissions"] == {"contents": "read"}
    (job,) = workflow["jobs"].values()
    actions = [step["uses"] for step in job["steps"] if "uses" in step]
    assert actions and all(re.fullmatch(r"[\w/-]+@[0-9a-f]{40}", action) for action in actions)
    assert "permissions" not in job
    kinds = workflow[True]["workflow_dispatch"]["inputs"]["kind"]["options"]  # YAML 1.1 takes `on` for true
    deploy, *_ = _command(root, ["app", "deploy"])
    assert {f"--{kind}" for kind in kinds} <= {
        one for param in deploy.params for one in param.opts + param.secondary_opts
    }


def _command(root: Any, words: list[str]) -> list[Any]:
    """The command that words name, and the rest of them."""
    command = root
    while words and words[0] in getattr(command, "commands", {}):
        command = command.commands[words.pop(0)]
    return [command, *words]
