"""The finished shards of an unfinished build, so that an interrupted build continues after them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from chexvision.files.atomic import sha256_of, write_text_atomic
from chexvision.shards.manifest import BadImage
from chexvision.shards.schema import SPLITS
from chexvision.shards.writer import Finished, unfinished_name

LEDGER_NAME = "finished.json"


@dataclass(frozen=True, slots=True)
class LeftOut:
    """An image that could not be used, and the split it would have been in."""

    split: str
    image: BadImage


@dataclass(frozen=True, slots=True)
class Ledger:
    """``finished.json``.

    Args:
        key: SHA-256 of everything that determines the bytes; a build with another key cannot use these shards.
        finished: closed shards, those of a split in order.
        left_out: images so far that could not be used.
    """

    key: str
    finished: tuple[Finished, ...] = ()
    left_out: tuple[LeftOut, ...] = ()

    def of(self, split: str) -> tuple[Finished, ...]:
        """The finished shards of one split."""
        return tuple(one for one in self.finished if one.shard.split == split)

    @property
    def rows(self) -> int:
        """Images in finished shards."""
        return sum(one.shard.rows for one in self.finished)

    @property
    def last(self) -> dict[str, str]:
        """By split, the name of the last image that is done; images are ordered by name."""
        return {one.shard.split: one.last for one in self.finished}

    def save(self, folder: Path) -> None:
        """Write it into `folder`."""
        write_text_atomic(folder / LEDGER_NAME, _LEDGER.dump_json(self, indent=1).decode() + "\n")


_LEDGER = TypeAdapter(Ledger)


def open_ledger(folder: Path, key: str) -> Ledger:
    """The ledger in `folder` with the shards that are intact; every other file in the folder is deleted.

    Args:
        folder: of the unfinished build.
        key: of the build that continues.
    """
    found = _read(folder)
    ledger = found if found is not None and found.key == key else Ledger(key)
    intact = [one for split in SPLITS for one in _intact(folder, ledger.of(split))]
    ledger = replace(ledger, finished=tuple(intact))
    last = ledger.last
    known = tuple(one for one in ledger.left_out if one.split in last and one.image.name <= last[one.split])
    ledger = replace(ledger, left_out=known)
    kept = {folder / one.shard.path for one in ledger.finished}
    for path in sorted(folder.rglob("*")):
        if path.is_file() and path not in kept:
            path.unlink()
    if ledger.finished:
        ledger.save(folder)
    return ledger


def kept_files(folder: Path) -> list[Path]:
    """The ledger in `folder` and the shards that it names; none without a ledger."""
    ledger = _read(folder)
    if ledger is None:
        return []
    paths = [one.shard.path for one in ledger.finished]
    named = [folder / path for path in paths if path == f"data/{Path(path).name}"]
    return [folder / LEDGER_NAME, *(path for path in named if path.is_file())]


def _read(folder: Path) -> Ledger | None:
    try:
        return _LEDGER.validate_json((folder / LEDGER_NAME).read_bytes())
    except (FileNotFoundError, ValidationError):
        return None


def _intact(folder: Path, shards: tuple[Finished, ...]) -> tuple[Finished, ...]:
    """The shards before the first one that is missing or differs from what was written."""
    for index, one in enumerate(shards):
        path = folder / one.shard.path
        if one.shard.path != unfinished_name(one.shard.split, index):
            return shards[:index]
        # The build may have been interrupted while it renamed them.
        for renamed in path.parent.glob(f"{path.stem}-of-*.parquet"):
            renamed.rename(path)
        if not path.is_file() or path.stat().st_size != one.shard.bytes or sha256_of(path) != one.shard.sha256:
            return shards[:index]
    return shards
