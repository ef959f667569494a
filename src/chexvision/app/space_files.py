"""What a Hugging Face Space consists of: a page or a Gradio app, and the files of its models."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import Literal, TypeAlias

import yaml
from pydantic import BaseModel

from chexvision import __version__
from chexvision.app.page_files import CONFIG, INDEX, Entry, PageModel, config_of, find_model, page_files
from chexvision.errors import ChexError, UsageError
from chexvision.hub.reference import Reference, RepoRef, parse_reference
from chexvision.hub.repo_files import CONFIG as MODEL_CONFIG
from chexvision.hub.repo_files import ENSEMBLE, RUN, model_file
from chexvision.layout import PACKAGE_DIR
from chexvision.runtime.export_info import INFO, MODEL, ExportInfo
from chexvision.templating import render

Sdk: TypeAlias = Literal["static", "gradio"]
Files: TypeAlias = dict[str, "Path | bytes"]

README = "README.md"
# Spaces install it beside requirements.txt. Those are the versions that the tests run with.
GRADIO, PYTHON = "6.31.0", "3.12"
# Threads of the browser need both of the first; the Hub shows a Space in a frame of another site, hence the last.
_ISOLATED = {
    "cross-origin-embedder-policy": "require-corp",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "cross-origin",
}
# A Space may redirect requests for large files, such as models, to the Hub's storage. Its page may read from there;
# the page on one's own machine reads from nowhere else.
_READS_ITSELF = "connect-src 'self'"
_READS_THE_HUB = f"{_READS_ITSELF} https://huggingface.co https://*.huggingface.co https://*.hf.co"
_METRICS = "metrics.json"
# Beside those that the export was made from, which it names. Without the weights, which the export replaces.
_READ = (MODEL_CONFIG, ENSEMBLE, RUN, _METRICS, INFO, MODEL)
_SOURCES = ("*.py", "*.md", "*.html", "*.css", "*.yaml", "*.xz", "py.typed")  # of the package


def space_files(models: Sequence[str], sdk: Sdk, title: str) -> Files:
    """Every file of a Space, by its path.

    Args:
        models: folders or ``USER/REPO[@REV]``; of a Gradio Space one.
        sdk: the static page, or the Gradio app.
        title: of the Space.

    Raises:
        UsageError: there is no such folder, or too many models.
        ChexError: a model cannot be reached or was not exported, or the page was not built.
    """
    found = [find_model(model) for model in models]
    files = _static_files(found) if sdk == "static" else _gradio_files(models, found)
    files[README] = _readme(found, sdk, title).encode()
    return dict(sorted(files.items()))


def _static_files(found: Sequence[PageModel]) -> Files:
    files = page_files(found)
    index = files[INDEX]
    page = index.decode() if isinstance(index, bytes) else index.read_text(encoding="utf-8")
    if page.count(_READS_ITSELF) != 1:
        raise ChexError(f"{INDEX} of the page has no policy with {_READS_ITSELF}; build the page again: make app")
    files[INDEX] = page.replace(_READS_ITSELF, _READS_THE_HUB).encode()
    return files


def _gradio_files(models: Sequence[str], found: Sequence[PageModel]) -> Files:
    if len(models) != 1:
        raise UsageError(f"{len(models)} models: the Gradio app has one; --static shows several side by side")
    files: Files = {path.name: path for path in sorted(_app_folder().iterdir()) if path.is_file()}
    # Spaces install requirements.txt before the repository is there, so a wheel in it could not be named.
    for pattern in _SOURCES:
        for path in sorted(PACKAGE_DIR.rglob(pattern)):
            name = path.relative_to(PACKAGE_DIR)
            if name.parts[0] != "share":
                files[str(PurePosixPath("chexvision", *name.parts))] = path
    below = "models/0"
    parsed = parse_reference(models[0])
    reference = RepoRef(parsed.repo_id, found[0].revision) if isinstance(parsed, RepoRef) else parsed
    files |= {f"{below}/{name}": path for name, path in _model_files(reference, found[0]).items()}
    files[CONFIG] = config_of(found, [below])
    return files


def _model_files(reference: Reference, model: PageModel) -> dict[str, Path]:
    """The files of a model that answers are computed with."""
    sources = ExportInfo.model_validate_json(model.info.read_bytes()).sources
    members = {str(PurePosixPath(name).parent) for name in sources if name.startswith("members/")}
    names = {*_READ, *sources, *(f"{member}/{_METRICS}" for member in members)}
    files: dict[str, Path] = {}
    for name in sorted(name for name in names if not name.endswith(".safetensors")):
        if PurePosixPath(name).is_absolute() or ".." in PurePosixPath(name).parts:
            raise ChexError(f"{INFO} of {model.name} names {name!r}, which is not a file of the model")
        path = model_file(reference, name)
        if path is not None:
            files[name] = path
    return files


def _app_folder() -> Path:
    installed, source = PACKAGE_DIR / "share" / "space", PACKAGE_DIR.parent.parent / "app" / "space"
    for folder in (installed, source):
        if (folder / "app.py").is_file():
            return folder
    raise ChexError(f"no app/space folder in {installed.parent} or {source.parent}; reinstall chexvision")


def _readme(models: Sequence[PageModel], sdk: Sdk, title: str) -> str:
    about = {
        "title": title,
        "emoji": "🩻",
        "colorFrom": "gray",
        "colorTo": "indigo",
        "sdk": sdk,
        **({"sdk_version": GRADIO, "python_version": PYTHON} if sdk == "gradio" else {}),
        "app_file": "app.py" if sdk == "gradio" else INDEX,
        "pinned": False,
        "license": "apache-2.0",
        "short_description": "Chest X-ray findings with maps. Research only.",  # at most 60 characters
        "models": [model.name for model in models if model.revision is not None],
        **({"custom_headers": _ISOLATED} if sdk == "static" else {}),
    }
    front = yaml.safe_dump(about, sort_keys=False, allow_unicode=True)
    synthetic = any(ExportInfo.model_validate_json(model.info.read_bytes()).synthetic for model in models)
    body = render(
        "chexvision.app",
        "space.md",
        title=title,
        static=sdk == "static",
        synthetic=synthetic,
        models=models,
        version=__version__,
    )
    return f"---\n{front}---\n{body}"


class _Config(BaseModel):
    models: list[Entry]


def serve_space(folder: Path) -> None:
    """Serve the model of a Gradio Space whose files are in `folder`, where the Space's environment says."""
    from chexvision.app.gradio_server import launch, load_app_model

    (entry,) = _Config.model_validate(json.loads((folder / CONFIG).read_bytes())).models
    host, port = os.environ.get("GRADIO_SERVER_NAME", "0.0.0.0"), int(os.environ.get("GRADIO_SERVER_PORT", "7860"))
    launch(*load_app_model(str(folder / entry.folder), entry), host, port, print)
