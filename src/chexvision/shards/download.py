"""The shards of a pinned dataset, fetched into the Hub's cache and checked against what they must be."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import asdict, dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from chexvision.errors import ChexError
from chexvision.files import sha256_of, write_text_atomic
from chexvision.hub.reference import RepoRef
from chexvision.layout import cache_dir
from chexvision.progress import Progress
from chexvision.shards.remote import fetch_file, fetch_manifest, list_files, without_client_bars
from chexvision.shards.schema import group_shards

_AT_ONCE = 4
_MEGABYTE = 10**6


@dataclass(frozen=True, slots=True)
class _Expected:
    """A shard, and what its bytes must be; `sha256` is None where nobody knows."""

    path: str
    bytes: int
    sha256: str | None


def download_shards(reference: RepoRef) -> Path:
    """Fetch what the cache lacks of a dataset's shards, several at a time, and check all of them once.

    A shard whose bytes are wrong is fetched once more. What was found right is not hashed again as long as its
    file has the same size and time of change.

    Args:
        reference: pinned to a sha.

    Returns:
        The dataset's folder in the Hub's cache.

    Raises:
        UsageError: the dataset has no shards, or lacks some of a split.
        ChexError: it cannot be had, or a shard is not what the manifest, or else the Hub's listing, says.
    """
    record = _Record(reference)
    known = {shard.path: shard for shard in _expected(reference, record)}
    grouped = group_shards(known, str(reference))
    expected = [known[path] for paths in grouped.values() for path in paths]
    places: dict[str, Path] = {}
    with without_client_bars(), ThreadPoolExecutor(_AT_ONCE) as pool:
        try:
            total = round(sum(shard.bytes for shard in expected) / _MEGABYTE)
            jobs = {pool.submit(_fetch_right, reference, shard, record): shard for shard in expected}
            with Progress(f"fetching {reference.repo_id}", total, "MB") as progress:
                done = 0
                for job in as_completed(jobs):
                    places[jobs[job].path] = job.result()
                    done += jobs[job].bytes
                    progress.advance(round(done / _MEGABYTE) - progress.done)
        finally:
            pool.shutdown(wait=True, cancel_futures=True)
            record.save()
    path, place = next(iter(places.items()))
    return place.parents[len(PurePosixPath(path).parts) - 1]


def _expected(reference: RepoRef, record: _Record) -> list[_Expected]:
    if record.listing:
        return record.listing
    manifest = fetch_manifest(reference)
    if manifest is not None:
        for shard in manifest.shards:
            if ".." in PurePosixPath(shard.path).parts or shard.path.startswith("/"):
                raise ChexError(f"the manifest of {reference} names {shard.path!r}, which is no place inside it")
        return [_Expected(shard.path, shard.bytes, shard.sha256) for shard in manifest.shards]
    # Kept, so that a set without a manifest can be used offline too.
    record.listing = [
        _Expected(path, file.bytes, file.sha256)
        for path, file in sorted(list_files(reference).items())
        if path.startswith("data/") and path.endswith(".parquet")
    ]
    return record.listing


def _fetch_right(reference: RepoRef, shard: _Expected, record: _Record) -> Path:
    """The shard's place in the cache, its bytes being right."""
    path = _fetch(reference, shard.path, again=False)
    if record.knows(shard.path, path):
        return path
    if _problem(path, shard) is not None:
        path = _fetch(reference, shard.path, again=True)
        problem = _problem(path, shard)
        if problem is not None:
            raise ChexError(
                f"shard {shard.path} of {reference} {problem}, also when fetched again: the dataset is damaged; push "
                "it again with chexvision shards push, and name the new sha"
            )
    record.remember(shard.path, path)
    return path


def _fetch(reference: RepoRef, path: str, *, again: bool) -> Path:
    place = fetch_file(reference, path, again=again)
    if place is None:
        raise ChexError(
            f"dataset {reference} lacks {path}, which its manifest names; push it again with chexvision shards push"
        )
    return place


def _problem(path: Path, shard: _Expected) -> str | None:
    if (size := path.stat().st_size) != shard.bytes:
        return f"has {size} bytes, expected {shard.bytes}"
    if shard.sha256 is None:
        return None
    digest = sha256_of(path)
    return None if digest == shard.sha256 else f"has SHA-256 {digest[:12]}…, expected {shard.sha256[:12]}…"


class _Record:
    """What is known of a dataset at a sha: shards found right and, without a manifest, which there are."""

    def __init__(self, reference: RepoRef) -> None:
        self._file = cache_dir() / "verified" / f"{reference.repo_id.replace('/', '--')}--{reference.revision}.json"
        self.listing: list[_Expected] = []
        self._right: dict[str, list[Any]] = {}
        try:
            known = json.loads(self._file.read_text(encoding="utf-8"))
            self.listing = [_Expected(**shard) for shard in known["listing"]]
            self._right = dict(known["right"])
        except FileNotFoundError:
            pass
        except (ValueError, TypeError, KeyError):
            self._file.unlink(missing_ok=True)  # only a memory: everything is looked at again

    def knows(self, shard: str, path: Path) -> bool:
        """Whether the file at `path` was found right, and has not changed since."""
        return self._right.get(shard) == _state(path)

    def remember(self, shard: str, path: Path) -> None:
        self._right[shard] = _state(path)

    def save(self) -> None:
        known = {"listing": [asdict(shard) for shard in self.listing], "right": dict(sorted(self._right.items()))}
        write_text_atomic(self._file, json.dumps(known, indent=1) + "\n")


def _state(path: Path) -> list[Any]:
    blob = path.resolve()
    stat = blob.stat()
    return [str(blob), stat.st_size, stat.st_mtime_ns]
