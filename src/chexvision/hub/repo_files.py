"""Single files of a published model: in a folder, or on the Hub by way of its cache."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from chexvision.errors import ChexError, UsageError
from chexvision.files.atomic import regular_size
from chexvision.hub.reference import Reference, RepoRef
from chexvision.hub.retry import reason

CONFIG = "config.json"
WEIGHTS = "model.safetensors"


def model_file(reference: Reference, name: str, **client: Any) -> Path | None:
    """A file of a published model, or None where it was published without.

    Args:
        reference: a folder, or a repository on the Hub.
        name: of the file.
        client: further options of `huggingface_hub.hf_hub_download`.

    Raises:
        UsageError: there is no such folder.
        ChexError: nobody can tell whether there is such a file, or it could not be fetched.
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
    # The client's generations raise errors of different HTTP libraries.
    except Exception as error:
        if _known_to_lack(reference, name, client):
            return None
        raise _failure(reference, name, error) from error


def at_commit(reference: Reference, **client: Any) -> Reference:
    """The same model; a repository at the commit that its revision, or its main branch, names now.

    What is fetched from there belongs together, also where somebody publishes meanwhile.

    Raises:
        UsageError: there is no such folder, or a revision of a folder is named.
        ChexError: it is not a model, or cannot be reached.
    """
    if isinstance(reference, RepoRef) and Path(reference.repo_id).is_dir():
        raise UsageError(
            f"{reference.repo_id} is a folder here, which has no revision {reference.revision!r}; leave the revision "
            "out, or run where there is no such folder to load it from the Hub"
        )
    config = model_file(reference, CONFIG, **client)
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

    found = try_to_load_from_cache(
        reference.repo_id, name, cache_dir=client.get("cache_dir"), revision=reference.revision
    )
    return found is _CACHED_NO_EXIST


def _failure(reference: RepoRef, name: str, error: Exception) -> ChexError:
    from huggingface_hub import constants
    from huggingface_hub.errors import (
        GatedRepoError,
        LocalEntryNotFoundError,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    if isinstance(error, GatedRepoError):
        return ChexError(f"model {reference.repo_id} asks for terms to be accepted on its page first")
    if isinstance(error, RepositoryNotFoundError):
        return ChexError(
            f"the Hub has no model {reference.repo_id}, or does not show it to you; check the name and, if it is "
            "private, HF_TOKEN"
        )
    if isinstance(error, RevisionNotFoundError):
        return ChexError(f"model {reference.repo_id} has no revision {reference.revision}")
    if isinstance(error, LocalEntryNotFoundError):
        why = "HF_HUB_OFFLINE is set" if constants.HF_HUB_OFFLINE else f"the Hub did not answer ({reason(error)})"
        return ChexError(
            f"{name} of {reference} is not in the cache {constants.HF_HUB_CACHE}, and {why}; load the model once "
            "with a connection, or pull it into a folder (chexvision pull) and name that"
        )
    return ChexError(
        f"could not fetch {name} of {reference}: {reason(error)}; check the name, the revision, the network and, for "
        "a private repository, HF_TOKEN"
    )
