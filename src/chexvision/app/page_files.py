"""What the static page consists of: its built files, and the exported files of the models that it offers."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from pydantic import ValidationError

from chexvision.errors import ChexError, UsageError
from chexvision.hub.reference import Reference, RepoRef, parse_reference
from chexvision.hub.repo_files import at_commit, model_file
from chexvision.layout import PACKAGE_DIR
from chexvision.metrics.records import Record
from chexvision.runtime.export_info import INFO, MODEL, ExportInfo

CONFIG = "models.json"  # see PageConfig of app/web/src/types.ts
INDEX = "index.html"
MOST_MODELS = 8


@dataclass(frozen=True, slots=True)
class PageModel:
    """A model that the page offers.

    Args:
        name: shown to the reader.
        revision: the commit on the Hub; None for a folder.
        url: its page on the Hub; None for a folder.
        info: its ``onnx/model.json``.
        model: its ``onnx/model.onnx``.
    """

    name: str
    revision: str | None
    url: str | None
    info: Path
    model: Path


def page_folder() -> Path:
    """The built page: in an installed wheel, or in a checkout.

    Raises:
        ChexError: it was not built.
    """
    installed, built = PACKAGE_DIR / "share" / "web", PACKAGE_DIR.parent.parent / "app" / "web" / "dist"
    for folder in (installed, built):
        if (folder / INDEX).is_file():
            return folder
    raise ChexError(f"the page is not built: there is no {built / INDEX}; build it with: make app")


def find_model(text: str) -> PageModel:
    """The exported files of a model, through the cache where it is on the Hub.

    Args:
        text: a folder or ``USER/REPO[@REV]``.

    Raises:
        UsageError: there is no such folder.
        ChexError: it cannot be reached, or was not exported.
    """
    reference = at_commit(parse_reference(text))
    again = f"chexvision export {text}"
    if isinstance(reference, RepoRef):
        again = f"chexvision export {reference.repo_id} --to {reference.repo_id}"
    info, model = model_file(reference, INFO), model_file(reference, MODEL)
    if info is None or model is None:
        raise ChexError(f"{text} has no {INFO if info is None else MODEL}; write it: {again}")
    try:
        known = ExportInfo.model_validate_json(info.read_bytes())
    except ValidationError:
        raise ChexError(f"{INFO} of {text} is damaged or newer; write it again: {again}") from None
    described = known.files.get(MODEL)
    if described is None or described.bytes != model.stat().st_size:
        raise ChexError(f"{MODEL} of {text} is not what {INFO} describes; write both again: {again}")
    return PageModel(*_name(reference), info, model)


def _name(reference: Reference) -> tuple[str, str | None, str | None]:
    if isinstance(reference, RepoRef):
        from huggingface_hub import constants

        url = f"{constants.ENDPOINT}/{reference.repo_id}/tree/{reference.revision}"
        return reference.repo_id, reference.revision, url
    return reference.resolve().name, None, None


class Entry(Record):
    """A model in ``models.json``; `folder` is where its files are, `url` its page."""

    name: str
    folder: str
    url: str | None
    revision: str | None


def config_of(models: Sequence[PageModel], folders: Sequence[str]) -> bytes:
    """The content of ``models.json``; `folders` are where the page finds the files of each model."""
    entries = [
        Entry(name=model.name, folder=folder, url=model.url, revision=model.revision).model_dump()
        for model, folder in zip(models, folders, strict=True)
    ]
    return json.dumps({"models": entries}, indent=1).encode()


def page_files(models: Sequence[PageModel]) -> dict[str, Path | bytes]:
    """Every file of the page with these models, by its path below the page's address.

    Raises:
        UsageError: no models, or too many.
        ChexError: the page was not built.
    """
    if not 1 <= len(models) <= MOST_MODELS:
        raise UsageError(f"{len(models)} models; the page offers 1 to {MOST_MODELS}")
    folder = page_folder()
    files: dict[str, Path | bytes] = {
        path.relative_to(folder).as_posix(): path for path in sorted(folder.rglob("*")) if path.is_file()
    }
    folders = [f"models/{number}" for number in range(len(models))]
    for below, model in zip(folders, models, strict=True):
        files[str(PurePosixPath(below, INFO))] = model.info
        files[str(PurePosixPath(below, MODEL))] = model.model
    files[CONFIG] = config_of(models, folders)
    return files
