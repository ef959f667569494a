"""Options and output that the commands of `chexvision shards` share."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from chexvision.errors import UsageError

if TYPE_CHECKING:
    from chexvision.hub.reference import RepoRef
    from chexvision.shards.manifest import Manifest, ShardEntry

_UNITS = {"KB": 10**3, "MB": 10**6, "GB": 10**9, "KIB": 2**10, "MIB": 2**20, "GIB": 2**30, "B": 1, "": 1}

Out = Annotated[Path, typer.Option("--out", help="Folder to make.", show_default=False)]
Size = Annotated[int, typer.Option("--size", min=28, max=4096, help="Side of the stored images in pixels.")]
Encoding = Annotated[Literal["png", "jpeg"], typer.Option("--encoding", help="png is lossless.")]
ShardSize = Annotated[str, typer.Option("--shard-size", help="The largest size of a shard: 256MB, 1GiB, …")]
Workers = Annotated[int | None, typer.Option("--workers", min=1, help="Threads.  [default: all cores]")]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace the shards in --out.")]
MaxBad = Annotated[
    float, typer.Option("--max-bad", min=0, max=1, help="The largest share of bad images to leave out.")
]
Private = Annotated[bool, typer.Option("--private", help="Create the dataset as private.")]
Seed = Annotated[int, typer.Option("--seed", min=0, help="Of all random choices.")]


def dataset_name(option: str, text: str) -> RepoRef:
    """The dataset that `option` names, without a revision.

    Raises:
        UsageError: it names something else.
    """
    from chexvision.hub.reference import RepoRef, parse_reference

    reference = parse_reference(text)
    if not isinstance(reference, RepoRef) or reference.revision is not None:
        raise UsageError(f"{option} {text} is not a dataset's name; write USER/NAME")
    return reference


def parse_bytes(text: str) -> int:
    """Read a size such as ``256MB``, ``1.5 GiB`` or ``1000000``.

    Raises:
        UsageError: the text is not a positive number with a known unit.
    """
    number = text.strip().rstrip("KMGIBkmgib ")
    unit = text.strip()[len(number) :].strip().upper()
    try:
        size = round(float(number) * _UNITS[unit])
    except (KeyError, ValueError, OverflowError):
        size = 0
    if size <= 0:
        raise UsageError(f"--shard-size {text!r} is not a size; write for instance 256MB")
    return size


def print_summary(manifest: Manifest, out: Path | str) -> None:
    from chexvision.shards.info import aligned

    rows = [("split", ["images", "patients", "shards", "bytes/image", "bad images"])]
    for name, counts in manifest.splits.items():
        shards = [shard for shard in manifest.shards if shard.split == name]
        rows.append((name, [*_cells(counts.images, counts.patients, shards), ""]))
    patients = sum(counts.patients for counts in manifest.splits.values())
    rows.append(("all", [*_cells(manifest.images, patients, manifest.shards), f"{len(manifest.bad):,}"]))
    typer.echo("\n".join([*aligned(rows), f"shards in {out}"]))


def _cells(images: int, patients: int, shards: Sequence[ShardEntry]) -> tuple[str, ...]:
    size = sum(shard.bytes for shard in shards)
    return f"{images:,}", f"{patients:,}", str(len(shards)), f"{size / max(images, 1):,.0f}"
