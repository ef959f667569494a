"""`manifest.json`: what a shard folder holds, by whom it was made and from what, without any time or path."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pydantic import TypeAdapter, ValidationError

from chexvision.errors import ChexError

MANIFEST_NAME = "manifest.json"
FORMAT = 1


@dataclass(frozen=True, slots=True)
class FileEntry:
    """A file beside the shards, such as ``boxes.csv``."""

    path: str  # relative to the folder
    sha256: str
    bytes: int


@dataclass(frozen=True, slots=True)
class ShardEntry:
    """One Parquet file."""

    path: str  # relative to the folder
    split: str
    sha256: str
    bytes: int
    rows: int


@dataclass(frozen=True, slots=True)
class SplitCounts:
    """What a split holds."""

    images: int
    patients: int
    findings: dict[str, int]  # images that show each finding, and "No Finding"


@dataclass(frozen=True, slots=True)
class Source:
    """What the shards were made from: radiographs with their metadata, or a drawing seed."""

    kind: Literal["radiographs", "drawn"]
    metadata: str | None = None  # name of the metadata file
    metadata_sha256: str | None = None


@dataclass(frozen=True, slots=True)
class SplitRule:
    """How patients came to their splits."""

    name: str  # "official", "patient" or a table's file name
    seed: int
    sha256: str | None = None  # of the table, or of the release's two lists one after the other


@dataclass(frozen=True, slots=True)
class BadImage:
    """An image that is not in the shards, and why."""

    name: str
    reason: str


@dataclass(frozen=True, slots=True)
class Manifest:
    """All of `manifest.json`."""

    format: int
    chexvision: str  # the version that made it
    source: Source
    split: SplitRule
    size: int  # side of an image in pixels
    encoding: str  # "png" (lossless) or "jpeg"
    splits: dict[str, SplitCounts]
    shards: tuple[ShardEntry, ...]
    files: tuple[FileEntry, ...]
    bad: tuple[BadImage, ...]

    @property
    def images(self) -> int:
        """Images in all splits."""
        return sum(counts.images for counts in self.splits.values())

    @property
    def all_files(self) -> tuple[FileEntry | ShardEntry, ...]:
        """Everything whose hash is known."""
        return (*self.shards, *self.files)


_ADAPTER = TypeAdapter(Manifest)


def write_manifest(folder: Path, manifest: Manifest) -> None:
    """Write `manifest.json` into `folder`; equal manifests give equal bytes."""
    (folder / MANIFEST_NAME).write_bytes(_ADAPTER.dump_json(manifest, indent=1) + b"\n")


def read_manifest(folder: Path) -> Manifest | None:
    """The manifest of a shard folder, or None where it has none.

    Raises:
        ChexError: the file is there and is no manifest that this version reads.
    """
    path = folder / MANIFEST_NAME
    try:
        text = path.read_bytes()
    except FileNotFoundError:
        return None
    try:
        manifest = _ADAPTER.validate_json(text)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise ChexError(f"{path} is no manifest of this version: {where or 'the file'}: {first['msg']}") from None
    if manifest.format != FORMAT:
        raise ChexError(f"{path} has format {manifest.format}, this version reads {FORMAT}; update chexvision")
    return manifest
