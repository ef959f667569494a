"""A hook of MkDocs that generates pages at build time: recipe files, commands, and the modules of the package.

The project's top-level Markdown files become pages as well.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from chexvision.cli import app, register

if TYPE_CHECKING:
    from mkdocs.config.defaults import MkDocsConfig
    from mkdocs.structure.files import Files

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = {
    "chexvision": ROOT / "src" / "chexvision",
    "chexvision_dispatch": ROOT / "dispatch" / "chexvision_dispatch",
}
# Pages of the site that are files at the top of the repository.
TOP = {"index.md": "README.md", "contributing.md": "CONTRIBUTING.md", "changelog.md": "CHANGELOG.md"}


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Add the pages of the modules to the navigation."""
    pages = [{name.removeprefix("chexvision."): f"api/{name}.md"} for name in sorted(_modules())]
    config.nav = [*(config.nav or []), {"API": pages}]
    return config


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the generated pages."""
    from mkdocs.structure.files import File

    pages = {"recipe_files.md": _recipe_files(), "commands.md": _commands()}
    pages |= {name: _linked((ROOT / source).read_text(encoding="utf-8")) for name, source in TOP.items()}
    pages |= {f"api/{name}.md": _api(name, modules) for name, modules in _modules().items()}
    for name, text in pages.items():
        files.append(File.generated(config, name, content=text))
    return files


def _linked(text: str) -> str:
    """A top-level file with the links to other pages that hold within the site; others become plain text."""
    pages = {source: name for name, source in TOP.items()}

    def link(match: re.Match[str]) -> str:
        label, target, anchor = match[1], match[2], match[3] or ""
        page = pages.get(target, target.removeprefix("docs/") if target.startswith("docs/") else None)
        return f"[{label}]({page}{anchor})" if page else label

    return re.sub(r"\[([^\]]+)\]\((?!https?:)([^)#]+)(#[^)]*)?\)", link, text)


def _recipe_files() -> str:
    lines = [
        "# Recipe files",
        "The files of `configs/` as they are; [Recipes](recipes.md) says how they are merged. "
        "`chexvision models show NAME` prints all values of one with their origin.",
    ]
    for folder in ("", "families/", "presets/"):
        for path in sorted((ROOT / "configs" / folder).glob("*.yaml")):
            text = path.read_text(encoding="utf-8").rstrip()
            lines += [f"## `configs/{folder}{path.name}`", f"```yaml\n{text}\n```"]
    return "\n\n".join(lines) + "\n"


def _commands() -> str:
    if not app.registered_commands:
        register.commands(app)
    return "\n\n".join(["# Commands", *_command("chexvision", typer.main.get_command(app))]) + "\n"


def _command(name: str, command: Any) -> Iterator[str]:
    """The sections of a command and of the commands below it."""
    context = command.context_class(command, info_name=name)
    yield f"## {name}"
    yield _plain(command.help or "")
    yield f"```text\n{command.get_usage(context).removeprefix('Usage: ')}\n```"
    records = [param.get_help_record(context) for param in command.get_params(context) if param.name != "help"]
    rows = [[f"`{names}`", _plain(meaning)] for names, meaning in filter(None, records)]
    yield _table(["argument or option", "meaning"], [row for row in rows if "completion" not in row[0]])
    for child, below in getattr(command, "commands", {}).items():
        if not below.hidden:
            yield from _command(f"{name} {child}", below)


def _modules() -> dict[str, list[str]]:
    """The modules of each package by the package's name."""
    found: dict[str, list[str]] = {}
    for root, folder in PACKAGES.items():
        for path in sorted(folder.rglob("*.py")):
            parts = path.relative_to(folder).with_suffix("").parts
            if not path.name.startswith("__") and parts[0] != "cli":  # commands have a page
                found.setdefault(".".join((root, *parts[:-1])), []).append(".".join((root, *parts)))
    return found


def _api(package: str, modules: list[str]) -> str:
    return "\n\n".join([f"# {package}", *(f"::: {module}" for module in modules)]) + "\n"


def _table(heads: list[str], rows: list[list[str]]) -> str:
    lines = [heads, ["---"] * len(heads), *([cell.replace("|", "\\|") for cell in row] for row in rows)]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def _plain(text: str) -> str:
    """Help text such that Markdown shows its characters."""
    return re.sub(r"([*_\[\]\\])", r"\\\1", text).replace("<", "&lt;")
