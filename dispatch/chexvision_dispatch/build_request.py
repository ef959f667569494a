"""A build of shards as a run: from the release on Kaggle, or from a folder of this machine."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from chexvision.errors import UsageError
from chexvision_dispatch.kernels import SHARDS
from chexvision_dispatch.submit import Job
from chexvision_dispatch.targets.target import Target

RELEASE = "nih-chest-xrays/data"  # on Kaggle; `kernels/shards/kernel-metadata.json` attaches it
_RULES = ("official", "patient")


@dataclass(frozen=True, slots=True)
class ShardsRequest:
    """What the user asked for; `images` is a folder on this machine, `split` None for what fits the images."""

    to: str
    images: Path | None
    size: int
    split: str | None
    shard_bytes: int
    seed: int
    max_bad: float
    private: bool


def building(request: ShardsRequest, target: Target) -> Job:
    """The job that builds and pushes.

    Args:
        request: what was asked for.
        target: where it is to run.

    Raises:
        UsageError: the images are not where the target sees them, or the split table is not there.
    """
    if target.is_here and (request.images is None or not request.images.is_dir()):
        raise UsageError("on this machine name the folder of the release: --images DIR")
    if not target.is_here and not target.has_release:
        raise UsageError(
            f"--on {target.name} has no copy of the release; take kaggle, which has, or local with --images"
        )
    if not target.is_here and request.images is not None:
        raise UsageError(f"--images is a folder on this machine; {target.name} has the release, {RELEASE}")
    data = str(request.images.resolve()) if request.images is not None else RELEASE
    files: dict[str, bytes] = {}
    words = ["--images", data if request.images is not None else f"{{dataset:{RELEASE}}}"]
    words += ["--size", str(request.size), "--shard-size", f"{request.shard_bytes}B"]
    words += ["--seed", str(request.seed), "--max-bad", f"{request.max_bad:g}"]
    if request.split in _RULES:
        words += ["--split", request.split]
    elif request.split is not None:
        table = Path(request.split).expanduser()
        if not table.is_file():
            raise UsageError(f"--split {request.split!r} is neither 'official' nor 'patient' nor a file")
        files[f"tables/{table.name}"] = table.read_bytes()
        words += ["--split", f"{{bundle}}/tables/{table.name}"]
    if request.private:
        words.append("--private")
    return Job(SHARDS, ["shards", "build", *words], files, data, request.to, private=request.private)
