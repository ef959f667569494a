"""A build of shards as a run: from the release on Kaggle, or from a folder of this machine."""

from __future__ import annotations

from pathlib import Path

from chexvision.errors import UsageError
from chexvision_dispatch.kernels import SHARDS
from chexvision_dispatch.submit import Job
from chexvision_dispatch.targets.registry import TARGETS, target_class
from chexvision_dispatch.targets.target import Target

RELEASE = "nih-chest-xrays/data"  # on Kaggle; `kernels/shards/kernel-metadata.json` attaches it
_RULES = ("official", "patient")


def building(
    target: Target,
    *,
    to: str,
    images: Path | None,
    size: int,
    split: str | None,
    shard_bytes: int,
    seed: int,
    max_bad: float,
    private: bool,
) -> Job:
    """The job that builds shards and pushes them.

    Args:
        target: where it is to run.
        to: the dataset, ``USER/NAME``.
        images: a folder on this machine; None for the release that the target has.
        size: of the shards' images in pixels, the shorter side.
        split: "official", "patient" or a table's file; None for what fits the images.
        shard_bytes: of a shard at most.
        seed: of the patients' division.
        max_bad: share of the images that may be unreadable.
        private: whether a dataset that is created is visible to its owner alone.

    Raises:
        UsageError: the images are not where the target sees them, or the split table is not there.
    """
    if target.is_here and (images is None or not images.is_dir()):
        raise UsageError("on this machine name the folder of the release: --images DIR")
    if not target.is_here and not target.has_release:
        known = {name: target_class(name) for name in TARGETS}
        ways = [f"--on {name}" for name, one in known.items() if one.has_release]
        ways += [f"--on {name} with --images" for name, one in known.items() if one.is_here]
        raise UsageError(f"--on {target.name} has no copy of the release; use {' or '.join(ways)}")
    if not target.is_here and images is not None:
        raise UsageError(f"--images is a folder on this machine; {target.name} has the release, {RELEASE}")
    data = str(images.resolve()) if images is not None else RELEASE
    files: dict[str, bytes] = {}
    words = ["--images", data if images is not None else f"{{dataset:{RELEASE}}}"]
    if images is None:
        words.append("--ignore-times")  # a fixed version, whose files may have other times in each session
    words += ["--size", str(size), "--shard-size", f"{shard_bytes}B"]
    words += ["--seed", str(seed), "--max-bad", f"{max_bad:g}"]
    if split in _RULES:
        words += ["--split", split]
    elif split is not None:
        table = Path(split).expanduser()
        if not table.is_file():
            raise UsageError(f"--split {split!r} is neither 'official' nor 'patient' nor a file")
        files[f"tables/{table.name}"] = table.read_bytes()
        words += ["--split", f"{{bundle}}/tables/{table.name}"]
    if private:
        words.append("--private")
    return Job(SHARDS, ["shards", "build", *words], files, data, to, private=private)
