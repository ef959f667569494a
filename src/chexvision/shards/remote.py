"""A dataset on the Hub: what it holds, and its shards' columns over the network without their images."""

from __future__ import annotations

import errno
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import pyarrow as pa

from chexvision.errors import ChexError
from chexvision.hub.reference import RepoRef
from chexvision.hub.retry import reason, retried
from chexvision.shards.columns import ShardPlace, read_columns
from chexvision.shards.manifest import MANIFEST_NAME, Manifest, read_manifest
from chexvision.shards.schema import group_shards

_READERS = 8
_POLLS = 3  # somebody waits for the answer, and the client has waited half a minute each time already


@dataclass(frozen=True, slots=True)
class RemoteFile:
    """A file as the Hub lists it: `sha256` is known of what is stored by LFS, `blob_id` is git's own name."""

    path: str
    bytes: int
    sha256: str | None
    blob_id: str


def pinned(reference: RepoRef) -> RepoRef:
    """The same dataset at the commit that its revision, or its main branch, names now.

    Raises:
        ChexError: there is no such dataset or revision, or the Hub does not answer.
    """
    from huggingface_hub import HfApi

    if reference.is_pinned:
        return reference
    try:
        info = retried(
            lambda: HfApi().repo_info(reference.repo_id, revision=reference.revision, repo_type="dataset"),
            what=f"looking up {reference}",
            attempts=_POLLS,
        )
    except Exception as error:
        raise hub_failure(reference, error) from error
    return RepoRef(reference.repo_id, info.sha)


def list_files(reference: RepoRef) -> dict[str, RemoteFile]:
    """All files of a dataset at a revision, by path.

    Raises:
        ChexError: there is no such dataset or revision, or the Hub does not answer.
    """
    from huggingface_hub import HfApi
    from huggingface_hub.hf_api import RepoFile

    def listing() -> dict[str, RemoteFile]:
        tree = HfApi().list_repo_tree(
            reference.repo_id, recursive=True, revision=reference.revision, repo_type="dataset"
        )
        return {
            entry.path: RemoteFile(entry.path, entry.size, entry.lfs.sha256 if entry.lfs else None, entry.blob_id)
            for entry in tree
            if isinstance(entry, RepoFile)
        }

    try:
        return retried(listing, what=f"listing {reference}", attempts=_POLLS)
    except Exception as error:
        raise hub_failure(reference, error) from error


def fetch_file(reference: RepoRef, path: str, *, again: bool = False) -> Path | None:
    """A file of a pinned dataset, from the Hub's cache if it is there; None where the dataset has no such file.

    Args:
        reference: pinned to a sha.
        path: inside the dataset.
        again: fetch it again even if the cache has it.

    Raises:
        ChexError: it cannot be had.
    """
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import RemoteEntryNotFoundError

    def once() -> str:
        return hf_hub_download(
            reference.repo_id, path, repo_type="dataset", revision=reference.revision, force_download=again
        )

    try:
        return Path(retried(once, what=f"fetching {path}"))
    except RemoteEntryNotFoundError:
        return None
    # The client's generations raise errors of different HTTP libraries.
    except Exception as error:
        raise hub_failure(reference, error) from error


def fetch_manifest(reference: RepoRef) -> Manifest | None:
    """The manifest of a pinned dataset; None where it has none.

    Raises:
        ChexError: it cannot be had, or not be read.
    """
    path = fetch_file(reference, MANIFEST_NAME)
    return None if path is None else read_manifest(path.parent)


def hub_place(reference: RepoRef, files: dict[str, RemoteFile]) -> ShardPlace:
    """The shards of a pinned dataset, read by ranges.

    Args:
        reference: pinned to a sha.
        files: what `list_files` says of it.

    Raises:
        ChexError: the manifest cannot be had, or not be read.
    """
    from huggingface_hub import HfFileSystem

    # Instances are kept and shared by default, with whatever address and token the first one found.
    system = HfFileSystem(skip_instance_cache=True)
    sizes = {path: file.bytes for path, file in files.items() if path.endswith(".parquet")}

    def read(path: str, columns: Sequence[str]) -> tuple[pa.Schema, pa.Table]:
        def once() -> tuple[pa.Schema, pa.Table]:
            # Arrow asks for what it needs and no more; reading ahead would fetch the images in between.
            name = f"datasets/{reference.repo_id}@{reference.revision}/{path}"
            with system.open(name, cache_type="none", size=sizes[path]) as file:
                return read_columns(file, columns, f"{path} of {reference}")

        try:
            return retried(once, what=f"reading {path}")
        except Exception as error:
            raise hub_failure(reference, error) from error

    return ShardPlace(str(reference), fetch_manifest(reference), sizes, read, _READERS)


@contextmanager
def first_shard(reference: RepoRef) -> Iterator[IO[bytes]]:
    """The first shard of a pinned dataset, open for reading by ranges.

    Raises:
        UsageError: the dataset has no shards.
        ChexError: it cannot be had.
    """
    from huggingface_hub import HfFileSystem

    files = list_files(reference)
    path = next(path for paths in group_shards(files, str(reference)).values() for path in paths)
    system = HfFileSystem(skip_instance_cache=True)
    name = f"datasets/{reference.repo_id}@{reference.revision}/{path}"
    with system.open(name, cache_type="none", size=files[path].bytes) as file:
        yield file


def hub_failure(reference: RepoRef, error: Exception) -> ChexError:
    """What a person is told when the Hub, or the way to it, failed them."""
    from huggingface_hub import constants
    from huggingface_hub.errors import GatedRepoError, RepositoryNotFoundError, RevisionNotFoundError

    if isinstance(error, ChexError):
        return error
    if isinstance(error, GatedRepoError):
        return ChexError(f"dataset {reference.repo_id} asks for terms to be accepted on its page first")
    if isinstance(error, RepositoryNotFoundError):
        return ChexError(
            f"the Hub has no dataset {reference.repo_id}, or keeps it from you: look at its name and, if it is "
            "private, at HF_TOKEN"
        )
    if isinstance(error, RevisionNotFoundError):
        return ChexError(f"dataset {reference.repo_id} has no revision {reference.revision}")
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        return ChexError(
            f"the disk of {constants.HF_HUB_CACHE} is full; free some room, or set HF_HOME to a larger disk"
        )
    if constants.HF_HUB_OFFLINE:
        return ChexError(
            f"dataset {reference} is not all in the Hub's cache {constants.HF_HUB_CACHE}, and HF_HUB_OFFLINE is set; "
            "unset it once to fetch the rest"
        )
    return ChexError(
        f"dataset {reference} cannot be had: {reason(error)}; check the network and, if it is private, HF_TOKEN"
    )


@contextmanager
def without_client_bars() -> Iterator[None]:
    """Silence the client's bars for each file while there is one for all of them."""
    from huggingface_hub.utils.tqdm import are_progress_bars_disabled, disable_progress_bars, enable_progress_bars

    if are_progress_bars_disabled():
        yield
        return
    disable_progress_bars()
    try:
        yield
    finally:
        enable_progress_bars()
