"""A dataset on the Hub: what it holds, and its shards' columns over the network without their images."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import pyarrow as pa

from chexvision.hub.hub_errors import call_hub, hub_error
from chexvision.hub.reference import RepoRef
from chexvision.retry import retried
from chexvision.shards.columns import ShardPlace, read_columns
from chexvision.shards.manifest import MANIFEST_NAME, Manifest, RemoteFile, read_manifest
from chexvision.shards.schema import group_shards

_READERS = 8
_ATTEMPTS = 3  # a person waits for the answer, and the client has waited half a minute each time already


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
            entry.path: RemoteFile(entry.path, entry.size, entry.lfs.sha256 if entry.lfs else None)
            for entry in tree
            if isinstance(entry, RepoFile)
        }

    return call_hub(listing, "listing files", reference, "dataset", attempts=_ATTEMPTS, download=True)


def fetch_file(reference: RepoRef, path: str, *, again: bool = False) -> Path | None:
    """A file of a pinned dataset, from the Hub's cache if it is there; None where the dataset has no such file.

    Args:
        reference: pinned to a sha.
        path: inside the dataset.
        again: fetch it again even if the cache has it.

    Raises:
        ChexError: it cannot be fetched.
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
    except Exception as error:
        raise hub_error(error, f"fetching {path}", reference, "dataset") from error


def fetch_manifest(reference: RepoRef) -> Manifest | None:
    """The manifest of a pinned dataset; None where it has none.

    Raises:
        ChexError: it cannot be fetched, or not be read.
    """
    path = fetch_file(reference, MANIFEST_NAME)
    return None if path is None else read_manifest(path.parent)


def hub_place(reference: RepoRef, files: dict[str, RemoteFile]) -> ShardPlace:
    """The shards of a pinned dataset, read by ranges.

    Args:
        reference: pinned to a sha.
        files: what `list_files` returned for it.

    Raises:
        ChexError: the manifest cannot be fetched, or not be read.
    """
    sizes = {path: file.bytes for path, file in files.items() if path.endswith(".parquet")}

    def read(path: str, columns: Sequence[str]) -> tuple[pa.Schema, pa.Table]:
        def once() -> tuple[pa.Schema, pa.Table]:
            with _opened(reference, path, sizes[path]) as file:
                return read_columns(file, columns, f"{path} of {reference}")

        return call_hub(once, f"reading {path}", reference, "dataset")

    return ShardPlace(str(reference), fetch_manifest(reference), sizes, read, _READERS)


@contextmanager
def first_shard(reference: RepoRef) -> Iterator[IO[bytes]]:
    """The first shard of a pinned dataset, open for reading by ranges.

    Raises:
        UsageError: the dataset has no shards.
        ChexError: it cannot be fetched.
    """
    files = list_files(reference)
    path = next(path for paths in group_shards(files, str(reference)).values() for path in paths)
    try:
        with _opened(reference, path, files[path].bytes) as file:
            yield file
    except Exception as error:
        raise hub_error(error, f"reading {path}", reference, "dataset") from error


def _opened(reference: RepoRef, path: str, size: int) -> IO[bytes]:
    from huggingface_hub import HfFileSystem

    # Instances are kept and shared by default, with whatever address and token the first one found.
    system = HfFileSystem(skip_instance_cache=True)
    # Arrow asks for what it needs and no more; reading ahead would fetch the images in between.
    file: IO[bytes] = system.open(
        f"datasets/{reference.repo_id}@{reference.revision}/{path}", cache_type="none", size=size
    )
    return file


@contextmanager
def without_client_bars() -> Iterator[None]:
    """Silence the client's bars per file while there is one bar for all."""
    from huggingface_hub.utils.tqdm import are_progress_bars_disabled, disable_progress_bars, enable_progress_bars

    if are_progress_bars_disabled():
        yield
        return
    disable_progress_bars()
    try:
        yield
    finally:
        enable_progress_bars()
