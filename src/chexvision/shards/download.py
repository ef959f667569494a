"""The shards of a pinned dataset, fetched into the Hub's cache and checked against their hashes."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import asdict, dataclass
from pathlib import Path, PurePosixPath

from chexvision.errors import ChexError
from chexvision.files.atomic import write_text_atomic
from chexvision.files.hashes import Hashes
from chexvision.hub.reference import RepoRef
from chexvision.layout import cache_dir
from chexvision.progress import Progress
from chexvision.shards.manifest import MANIFEST_NAME, read_manifest
from chexvision.shards.remote import fetch_file, fetch_manifest, list_files, without_client_bars
from chexvision.shards.schema import group_shards

_AT_ONCE = 4
_MEGABYTE = 10**6


@dataclass(frozen=True, slots=True)
class _Expected:
    """A shard, and what its bytes must be; `sha256` is None where it is unknown."""

    path: str
    bytes: int
    sha256: str | None


def download_shards(reference: RepoRef) -> Path:
    """Fetch the shards that the cache lacks, several at a time, and check all of them once.

    A shard whose bytes are wrong is fetched once more. A shard that was right is not hashed again as long as
    its file keeps its size and modification time.

    Args:
        reference: pinned to a sha.

    Returns:
        The dataset's folder in the Hub's cache.

    Raises:
        UsageError: the dataset has no shards, or lacks some of a split.
        ChexError: it cannot be fetched, or a shard differs from the manifest or, without one, from the Hub's listing.
    """
    known = {shard.path: shard for shard in _expected(reference)}
    grouped = group_shards(known, str(reference))
    expected = [known[path] for paths in grouped.values() for path in paths]
    hashes = Hashes()
    paths_of: dict[str, Path] = {}
    with without_client_bars(), ThreadPoolExecutor(_AT_ONCE) as pool:
        try:
            total = round(sum(shard.bytes for shard in expected) / _MEGABYTE)
            jobs = {pool.submit(_fetch_right, reference, shard, hashes): shard for shard in expected}
            with Progress(f"fetching {reference.repo_id}", total, "MB") as progress:
                done = 0
                for job in as_completed(jobs):
                    paths_of[jobs[job].path] = job.result()
                    done += jobs[job].bytes
                    progress.advance(round(done / _MEGABYTE) - progress.done)
        finally:
            pool.shutdown(wait=True, cancel_futures=True)
            hashes.save()
    path, local = next(iter(paths_of.items()))
    return local.parents[len(PurePosixPath(path).parts) - 1]


def cached_shards(reference: RepoRef) -> bool:
    """Whether all shards of a dataset are in the Hub's cache, right or not; without a request.

    Args:
        reference: pinned to a sha.
    """
    from huggingface_hub import try_to_load_from_cache

    def cached(path: str) -> Path | None:
        found = try_to_load_from_cache(reference.repo_id, path, revision=reference.revision, repo_type="dataset")
        return Path(found) if isinstance(found, str) else None

    manifest_file = cached(MANIFEST_NAME)
    manifest = read_manifest(manifest_file.parent) if manifest_file is not None else None
    paths = [shard.path for shard in (manifest.shards if manifest is not None else _Listing(reference).read())]
    return bool(paths) and all(cached(path) is not None for path in paths)


def _expected(reference: RepoRef) -> list[_Expected]:
    listing = _Listing(reference)
    if known := listing.read():
        return known
    manifest = fetch_manifest(reference)
    if manifest is not None:
        return [_Expected(shard.path, shard.bytes, shard.sha256) for shard in manifest.shards]
    found = [
        _Expected(path, file.bytes, file.sha256)
        for path, file in sorted(list_files(reference).items())
        if path.startswith("data/") and path.endswith(".parquet")
    ]
    listing.save(found)
    return found


def _fetch_right(reference: RepoRef, shard: _Expected, hashes: Hashes) -> Path:
    """The shard's path in the cache, once its bytes are right."""
    path = _fetch(reference, shard.path, again=False)
    if _problem(path, shard, hashes) is None:
        return path
    path = _fetch(reference, shard.path, again=True)
    problem = _problem(path, shard, hashes)
    if problem is not None:
        raise ChexError(
            f"shard {shard.path} of {reference} {problem}, also when fetched again: the dataset is damaged; push "
            "it again with chexvision shards push, and name the new sha"
        )
    return path


def _fetch(reference: RepoRef, path: str, *, again: bool) -> Path:
    local = fetch_file(reference, path, again=again)
    if local is None:
        raise ChexError(
            f"dataset {reference} lacks {path}, which its manifest names; push it again with chexvision shards push"
        )
    return local


def _problem(path: Path, shard: _Expected, hashes: Hashes) -> str | None:
    if (size := path.stat().st_size) != shard.bytes:
        return f"has {size} bytes, expected {shard.bytes}"
    if shard.sha256 is None:
        return None
    digest = hashes.of(path)
    return None if digest == shard.sha256 else f"has SHA-256 {digest[:12]}…, expected {shard.sha256[:12]}…"


class _Listing:
    """Which shards a dataset without a manifest has at a sha, cached so that it can be used offline too."""

    def __init__(self, reference: RepoRef) -> None:
        self._file = cache_dir() / "listings" / f"{reference.repo_id.replace('/', '--')}--{reference.revision}.json"

    def read(self) -> list[_Expected]:
        """Empty where nothing was kept."""
        try:
            return [_Expected(**shard) for shard in json.loads(self._file.read_text(encoding="utf-8"))]
        except (OSError, ValueError, TypeError):
            return []  # only a cache: the Hub is asked again

    def save(self, listing: list[_Expected]) -> None:
        write_text_atomic(self._file, json.dumps([asdict(shard) for shard in listing], indent=1) + "\n")
