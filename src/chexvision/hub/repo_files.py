"""Single files of a published model: in a folder, or on the Hub through its cache."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from chexvision.errors import ChexError, UsageError
from chexvision.files.atomic import regular_size
from chexvision.hub.hub_errors import hub_error
from chexvision.hub.reference import Reference, RepoRef

CONFIG = "config.json"
WEIGHTS = "model.safetensors"
RUN = "run.json"  # see `chexvision.artifact.contents.RunInfo`
ENSEMBLE = "ensemble.json"  # of an ensemble, in place of the two above


def model_file(reference: Reference, name: str, **client: Any) -> Path | None:
    """A file of a published model, or None where it was published without.

    Args:
        reference: a folder, or a repository on the Hub.
        name: of the file.
        client: further options of `huggingface_hub.hf_hub_download`.

    Raises:
        UsageError: there is no such folder.
        ChexError: it is unknown whether there is such a file, or it could not be fetched.
    """
    if isinstance(reference, Path):
        if not reference.is_dir():
            raise UsageError(_no_folder(reference))
        path = reference / name
        if not os.path.lexists(path):
            return None
        try:
            regular_size(path)
        except OSError as error:
            raise ChexError(f"{path}: {error.strerror or error}") from None
        return path
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import RemoteEntryNotFoundError

    try:
        return Path(hf_hub_download(reference.repo_id, name, revision=reference.revision, **client))
    except RemoteEntryNotFoundError:
        return None
    except Exception as error:
        if _known_to_lack(reference, name, client):
            return None
        raise hub_error(error, f"fetching {name}", reference) from error


def at_commit(reference: Reference, **client: Any) -> Reference:
    """The same model or ensemble; a repository at the commit that its revision, or its main branch, names now.

    All that is fetched from there belongs together, even if another run publishes in between.

    Raises:
        UsageError: there is no such folder, or a revision of a folder is named.
        ChexError: it is not a model, or cannot be reached.
    """
    if isinstance(reference, RepoRef) and Path(reference.repo_id).is_dir():
        raise UsageError(
            f"{reference.repo_id} is a folder here, which has no revision {reference.revision!r}; leave the revision "
            "out, or run where there is no such folder to load it from the Hub"
        )
    config = model_file(reference, CONFIG, **client) or model_file(reference, ENSEMBLE, **client)
    if config is None:
        raise ChexError(f"{reference} has no {CONFIG} of a CheXVision model; check the name and the revision")
    if isinstance(reference, Path) or reference.is_pinned:
        return reference
    return RepoRef(reference.repo_id, config.parent.name)  # snapshots/<sha>/config.json


def _no_folder(path: Path) -> str:
    before, at, revision = str(path).rpartition("@")
    if at and Path(before).is_dir():
        return f"{before} is a folder, which has no revision {revision!r}; name it without @{revision}"
    return f"no model folder {path}; name a folder, or USER/REPO[@REVISION] on the Hub"


def _known_to_lack(reference: RepoRef, name: str, client: dict[str, Any]) -> bool:
    """Whether the Hub said earlier that the repository has no such file at this revision: the cache remembers."""
    from huggingface_hub import _CACHED_NO_EXIST, try_to_load_from_cache

    cache = client.get("cache_dir")
    found = try_to_load_from_cache(reference.repo_id, name, cache_dir=cache, revision=reference.revision)
    return found is _CACHED_NO_EXIST
