"""An export from names to files: in a folder, or added to a model on the Hub in one commit."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from chexvision.artifact.contents import CARD
from chexvision.artifact.load import load_ensemble
from chexvision.errors import ChexError
from chexvision.export.agreement import rendered_images
from chexvision.export.export_model import common_side, export_model
from chexvision.export.quantize import Calibrating, calibrating_on
from chexvision.files.atomic import sha256_of, write_text_atomic
from chexvision.files.json_files import read_file
from chexvision.hub.hub_errors import call_hub
from chexvision.hub.reference import Reference, RepoRef
from chexvision.hub.repo_files import at_commit, model_file
from chexvision.images.radiograph import Grey, resize_area
from chexvision.report.card_parts import with_exported
from chexvision.runtime.export_info import FOLDER, ExportInfo


@dataclass(frozen=True, slots=True)
class Exported:
    """Files that were written.

    Args:
        info: about them.
        address: the folder ``onnx``, or a web page.
    """

    info: ExportInfo
    address: str


def run_export(
    model: Reference, destination: Reference, images: Sequence[Grey], quantize: bool, data: Reference | None
) -> Exported:
    """Export a published model to a folder, or into a repository.

    Args:
        model: a folder or a repository.
        destination: a folder that gets ``onnx/``, or the repository whose model it is.
        images: see `export_model`; also what int8 is calibrated on where there are no shards.
        quantize: whether to write the file in int8, too.
        data: shards, for that.

    Raises:
        UsageError: a name is wrong.
        ChexError: see `export_model`; or the repository has another model, or cannot be written.
    """
    model = at_commit(model)
    calibrating = _calibrating(model, images, data) if quantize else None
    if isinstance(destination, Path):
        info = export_model(model, destination, images, calibrating)
        if model_file(destination, CARD) is not None:
            write_text_atomic(destination / CARD, _card(destination, info))
        return Exported(info, str(destination / FOLDER))
    pinned = at_commit(destination)
    with TemporaryDirectory() as folder:
        info = export_model(model, Path(folder), images, calibrating, destination.repo_id)
        _refuse_other(pinned, info)
        return Exported(info, _publish(pinned, Path(folder), info))


def _calibrating(model: Reference, images: Sequence[Grey], data: Reference | None) -> Calibrating:
    ensemble = load_ensemble(model)
    side = common_side(ensemble)
    if data is not None:
        return calibrating_on(model, data, side, ensemble.label_space)
    return Calibrating(np.stack([resize_area(gray, side) for gray in images or rendered_images(side)]))


def _refuse_other(destination: Reference, info: ExportInfo) -> None:
    """Raise ChexError if a repository's model is not the one that was exported."""
    for name, sha256 in info.sources.items():
        path = model_file(destination, name)
        if path is None or sha256_of(path) != sha256:
            raise ChexError(
                f"{destination} has another {name} than the exported model; export that one: chexvision export "
                f"{destination} --to {destination}"
            )


def _publish(destination: Reference, folder: Path, info: ExportInfo) -> str:
    """Replace the exported files of a repository in one commit, and name its page."""
    from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi

    if not isinstance(destination, RepoRef):
        raise TypeError("a folder is no repository")
    api, repo = HfApi(), destination.repo_id
    files = {path.relative_to(folder).as_posix(): path for path in sorted((folder / FOLDER).iterdir())}
    card = _card(destination, info)

    def commit() -> str:
        present = api.list_repo_files(repo, revision=destination.revision)
        gone = [name for name in present if name.startswith(f"{FOLDER}/") and name not in files]
        operations: list[CommitOperationAdd | CommitOperationDelete] = [
            *(CommitOperationAdd(name, path) for name, path in files.items()),
            *(CommitOperationDelete(name) for name in gone),
        ]
        if card:
            operations.append(CommitOperationAdd(CARD, card.encode()))
        made = api.create_commit(
            repo, operations, commit_message=f"Export to {FOLDER}/", parent_commit=destination.revision
        )
        return str(made.oid)

    revision = call_hub(commit, "publishing an export", RepoRef(repo))
    return f"{api.endpoint}/{repo}/tree/{revision}/{FOLDER}"


def _card(reference: Reference, info: ExportInfo) -> str:
    path = model_file(reference, CARD)
    return with_exported(read_file(path).decode("utf-8", "replace"), info) if path is not None else ""
