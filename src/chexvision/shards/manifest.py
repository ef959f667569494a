"""`manifest.json`: what a shard folder contains, which version made it and from what, without any time or path."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath
from typing import Annotated, Literal

from pydantic import BeforeValidator, Field, TypeAdapter, ValidationError

from chexvision.errors import ChexError, UsageError
from chexvision.files.atomic import read_regular
from chexvision.files.json_files import first_problem
from chexvision.labels import NIH, LabelSpace
from chexvision.releases.terms import Terms, Views

MANIFEST_NAME = "manifest.json"
FORMAT = 3

Count = Annotated[int, Field(ge=0)]


@dataclass(frozen=True, slots=True)
class FileEntry:
    """A file next to the shards, such as ``boxes.csv``."""

    path: str  # relative to the folder
    sha256: str
    bytes: Count


@dataclass(frozen=True, slots=True)
class RemoteFile:
    """A file as the Hub lists it; `sha256` is None of files that are not stored by LFS."""

    path: str
    bytes: int
    sha256: str | None


@dataclass(frozen=True, slots=True)
class ShardEntry:
    """One Parquet file."""

    path: str  # relative to the folder
    split: str
    sha256: str
    bytes: Count
    rows: Count


@dataclass(frozen=True, slots=True)
class SplitCounts:
    """The contents of a split."""

    images: Count
    patients: Count
    findings: dict[str, int]  # images on which each finding is present, and normal ones
    open_labels: dict[str, int] = field(default_factory=dict)  # of each finding, if any: uncertain or unknown


def _current_kind(kind: object) -> object:
    return "synthetic" if kind == "drawn" else kind  # as format 1 has it


@dataclass(frozen=True, slots=True)
class Source:
    """What the shards were made from: radiographs with their metadata, or a seed."""

    kind: Annotated[Literal["radiographs", "synthetic"], BeforeValidator(_current_kind)]
    metadata: str | None = None  # name of the metadata file
    metadata_sha256: str | None = None


@dataclass(frozen=True, slots=True)
class Dataset:
    """Which dataset the radiographs are of.

    Args:
        name: of `chexvision.releases.sets.SETS`, with what follows it after ``:``.
        views: "frontal", or "all" where laterals are in the shards too.
        terms: None of one's own images.
        studies: whether the shards have a column `study_id`.
        knows_patients: whether it says which images are of one person; if not, every image counts as a patient.
    """

    name: str
    views: Views
    terms: Terms | None
    studies: bool = False
    knows_patients: bool = True


@dataclass(frozen=True, slots=True)
class SplitRule:
    """How patients were assigned to splits."""

    name: str  # "official", "patient" or a table's file name
    seed: int
    sha256: str | None = None  # of the table, or of the release's two lists, concatenated


@dataclass(frozen=True, slots=True)
class BadImage:
    """An image that is not in the shards, and why."""

    name: str
    reason: str


@dataclass(frozen=True, slots=True)
class LeftOutCount:
    """How many images of a release are left out on purpose, and why."""

    reason: str
    images: Count


@dataclass(frozen=True, order=True, slots=True)
class ImpossibleAge:
    """An age that no person can have, as the metadata has it, such as ``411Y`` in the 2017 edition."""

    name: str  # of the image
    age: str


@dataclass(frozen=True, slots=True)
class Manifest:
    """The content of `manifest.json`."""

    format: int
    chexvision: str  # the version that made it
    source: Source
    split: SplitRule
    size: Count  # side of an image in pixels
    encoding: str  # "png" (lossless) or "jpeg"
    splits: dict[str, SplitCounts]
    shards: tuple[ShardEntry, ...]
    files: tuple[FileEntry, ...]
    bad: tuple[BadImage, ...]
    impossible_ages: tuple[ImpossibleAge, ...] = ()  # of images in the shards, where their age is null
    label_space: LabelSpace = NIH
    dataset: Dataset | None = None  # of synthetic images, and in formats before 3
    left_out: tuple[LeftOutCount, ...] = ()

    @property
    def synthetic(self) -> bool:
        """Whether the images are synthetic, not taken of patients."""
        return self.source.kind == "synthetic"

    @property
    def of_nih(self) -> bool:
        """Whether the images are radiographs of NIH ChestX-ray14; formats before 3 name no set, but its labels."""
        if self.synthetic:
            return False
        return self.label_space == NIH if self.dataset is None else self.dataset.name == "nih"

    @property
    def images(self) -> int:
        """Images in all splits."""
        return sum(counts.images for counts in self.splits.values())

    @property
    def all_files(self) -> tuple[FileEntry | ShardEntry, ...]:
        """Every file whose hash is known."""
        return (*self.shards, *self.files)


@dataclass(frozen=True, slots=True)
class _Head:
    format: int


_ADAPTER = TypeAdapter(Manifest)
_HEAD = TypeAdapter(_Head)
_LARGEST = 2**28  # bytes


def label_space_of(manifest: Manifest | None) -> LabelSpace:
    """The label set of shards; those without a manifest are of NIH ChestX-ray14."""
    return NIH if manifest is None else manifest.label_space


def difference(entry: FileEntry | ShardEntry | RemoteFile, size: int, sha256: str | None) -> str | None:
    """How a file differs from `entry`; None where it is the same."""
    if size != entry.bytes:
        return f"{entry.path} has {size} bytes, expected {entry.bytes}"
    if sha256 != entry.sha256:
        return f"{entry.path} has SHA-256 {(sha256 or 'unknown')[:12]}…, expected {(entry.sha256 or 'unknown')[:12]}…"
    return None


def write_manifest(folder: Path, manifest: Manifest) -> None:
    """Write `manifest.json` into `folder`; equal manifests give equal bytes."""
    (folder / MANIFEST_NAME).write_bytes(_ADAPTER.dump_json(manifest, indent=1) + b"\n")


def read_manifest(folder: Path) -> Manifest | None:
    """The manifest of a shard folder, of this or an earlier format, or None where it has none.

    Raises:
        ChexError: the file exists and is not a manifest that this version reads.
    """
    path = folder / MANIFEST_NAME
    try:
        text = read_regular(path, _LARGEST)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise ChexError(f"{path} cannot be read: {error.strerror}") from None
    try:
        found = _HEAD.validate_json(text).format  # first: another format may have other fields
        if not 1 <= found <= FORMAT:
            raise ChexError(f"{path} has format {found}, this version reads up to {FORMAT}; update chexvision")
        manifest = replace(_ADAPTER.validate_json(text), format=FORMAT)
    except ValidationError as error:
        raise ChexError(f"{path} is not a manifest: {first_problem(error)}") from None
    _check_places(path, manifest)
    return manifest


def _check_places(path: Path, manifest: Manifest) -> None:
    for entry in manifest.all_files:
        if PurePosixPath(entry.path).is_absolute() or ".." in PurePosixPath(entry.path).parts or "\\" in entry.path:
            raise ChexError(f"{path} names {entry.path!r}, which is outside its folder")
    for shard in manifest.shards:
        if not PurePosixPath(shard.path).name.startswith(f"{shard.split}-"):
            raise ChexError(f"{path} assigns {shard.path} to split {shard.split!r}")


def check_replaceable(out: Path, *, overwrite: bool) -> None:
    """Raise UsageError where `out` exists and is neither empty nor a shard folder to overwrite."""
    if not out.exists():
        return
    if not out.is_dir():
        raise UsageError(f"--out {out} is a file; name a folder")
    if not any(out.iterdir()):
        return
    if not (out / MANIFEST_NAME).is_file():
        raise UsageError(f"--out {out} is not empty and holds no shards; name another folder")
    if not overwrite:
        raise UsageError(f"--out {out} already holds shards; add --overwrite to replace them")
