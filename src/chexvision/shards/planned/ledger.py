"""The finished shards of an unfinished build, so that an interrupted build continues without making them again."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from pydantic import TypeAdapter, ValidationError

from chexvision.shards.manifest import BadImage, ShardEntry
from chexvision.shards.planned.outputs import LocalOutput, Output

FINISHED = "finished"  # the folder with a record of each shard
CANNOT_READ = "cannot be read: "  # what the reason begins with where an image's content is not known


@dataclass(frozen=True, slots=True)
class Built:
    """A finished shard.

    Args:
        key: SHA-256 of everything that determines its bytes, see `chexvision.shards.planned.make.ShardRecipe.key`.
        shard: the file.
        bad: images that would be in it and could not be used.
    """

    key: str
    shard: ShardEntry
    bad: tuple[BadImage, ...] = ()


@dataclass(frozen=True, slots=True)
class Ledger:
    """The finished shards of a build, in the order in which they were finished."""

    finished: tuple[Built, ...] = ()

    @property
    def rows(self) -> int:
        """Images in finished shards."""
        return sum(one.shard.rows for one in self.finished)

    @property
    def bad(self) -> tuple[BadImage, ...]:
        """Images that finished shards lack."""
        return tuple(image for one in self.finished for image in one.bad)

    def plus(self, built: Built) -> Ledger:
        """With one more."""
        return Ledger((*self.finished, built))


_BUILT = TypeAdapter(Built)


def record_of(shard: str) -> str:
    """The path of the record of the shard with this path."""
    return f"{FINISHED}/{PurePosixPath(shard).stem}.json"


def write_record(output: Output, built: Built) -> None:
    """Record a shard that is in `output`: from now on it is not made again."""
    output.write(record_of(built.shard.path), _BUILT.dump_json(built, indent=1).decode() + "\n")


def open_ledger(output: Output, keys: Mapping[str, str]) -> Ledger:
    """The finished shards in `output` that are intact; every other file there is deleted.

    Args:
        output: of the unfinished build.
        keys: of each planned shard, by its path: a shard with another key is not one of this build.
    """
    finished = []
    kept = set()
    there = output.listed()
    recorded = set(there)  # so that nothing is asked for each of thousands of shards that are not there
    for path, key in keys.items():
        built = finished_shard(output, path, key) if record_of(path) in recorded else None
        if built is not None:
            finished.append(built)
            kept |= {path, record_of(path)}
    for path in there:
        if path not in kept:
            output.remove(path)
    return Ledger(tuple(finished))


def finished_shard(output: Output, path: str, key: str) -> Built | None:
    """The shard that is to be at `path`, if it is there, intact, and has this key.

    One that lacks an image that could not be read is none: the disk may be mounted, or the permission given, since.
    """
    built = _read(output, path)
    if built is None or (built.key, built.shard.path) != (key, path):
        return None
    if any(image.reason.startswith(CANNOT_READ) for image in built.bad):
        return None
    return built if output.holds(path, built.shard.bytes, built.shard.sha256) else None


def kept_files(folder: Path) -> list[Path]:
    """The records in the local `folder` and the shards that they name; none without records."""
    output = LocalOutput(folder)
    found = []
    for record in sorted((folder / FINISHED).glob("*.json")):
        shard = f"data/{record.stem}.parquet"
        built = _read(output, shard)
        if built is not None and built.shard.path == shard and (folder / shard).is_file():
            found += [record, folder / shard]
    return found


def _read(output: Output, shard: str) -> Built | None:
    text = output.read(record_of(shard))
    try:
        return _BUILT.validate_json(text) if text is not None else None
    except ValidationError:
        return None
