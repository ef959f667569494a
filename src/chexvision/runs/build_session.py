"""The progress of a session that builds shards: its position is images, its state the finished shards."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path

from chexvision.hub.reference import RepoRef
from chexvision.runs.branch import RunBranch
from chexvision.runs.run_progress import RunProgress
from chexvision.runs.session import Session
from chexvision.shards.build import BuildOptions, Stopped, build_shards
from chexvision.shards.manifest import Manifest
from chexvision.shards.planned.ledger import Ledger, kept_files, record_of
from chexvision.shards.push import push_shards


class BuildProgress:
    """Reports building to its `session`; see `Session` for the arguments. The shards end in ``FOLDER/shards``.

    It is the session's `ResumableWork`: the state is the shards, finished or complete.
    """

    def __init__(
        self, folder: Path, run_id: str, *, max_hours: float | None = None, branch: RunBranch | None = None
    ) -> None:
        self._folder = folder
        self.out = folder / "shards"
        self._partial = folder / "shards.partial"
        self._began = time.monotonic()
        self._done_before = 0
        self.session = Session(folder, run_id, self, max_hours=max_hours, branch=branch)

    def state_files(self) -> Mapping[str, Path]:
        """The finished shards with their records, or the complete set once it is built."""
        built = sorted(path for path in self.out.rglob("*") if path.is_file())
        return self._named(built or kept_files(self._partial))

    def unsent_files(self) -> Mapping[str, Path]:
        """None: each shard is enqueued when it is finished."""
        return {}

    def with_files(self, progress: RunProgress, files: Mapping[str, Path]) -> RunProgress:
        """The progress as it is: it counts finished shards only."""
        return progress

    def position(self, progress: RunProgress) -> str:
        """The images in finished shards."""
        return f"with {progress.images_done:,} of {progress.images or 0:,} images in finished shards"

    def _named(self, paths: list[Path]) -> dict[str, Path]:
        return {path.relative_to(self._folder).as_posix(): path for path in paths}

    def should_stop(self) -> bool:
        """Whether to end with the finished shards kept."""
        return self.session.should_stop()

    def begins(self, images: int, ledger: Ledger) -> None:
        """Building begins after the shards of `ledger`."""
        self._began, self._done_before = time.monotonic(), ledger.rows
        self.session.update(status="building", images=images, images_done=ledger.rows)
        if ledger.finished:
            print(f"continuing after {ledger.rows:,} of {images:,} images in finished shards", flush=True)
            # The branch may lack some: they may come from an earlier session's output.
            self.session.enqueue(self.state_files(), "Finished shards")

    def finished(self, ledger: Ledger) -> None:
        """The last shard of `ledger` is finished."""
        rate = (ledger.rows - self._done_before) / max(time.monotonic() - self._began, 1e-9)
        left = ((self.session.progress.images or 0) - ledger.rows) / rate
        self.session.update(images_done=ledger.rows, seconds_left=round(max(left, 0.0), 1))
        shard = ledger.finished[-1].shard
        files = self._named([self._partial / shard.path, self._partial / record_of(shard.path)])
        self.session.enqueue(files, f"{shard.rows:,} images of {shard.split}")

    def built(self, manifest: Manifest) -> None:
        """All shards are complete; whether they are pushed is reported next."""
        images = manifest.images
        self.session.update(status="complete", images=images, images_done=images, seconds_left=0.0)


def build_and_push(
    images: list[Path],
    metadata: Path | None,
    options: BuildOptions,
    progress: BuildProgress,
    to: RepoRef | None = None,
    *,
    private: bool = False,
) -> tuple[Manifest | None, RepoRef | None]:
    """Build shards into the run's folder, after those that are finished, and push them.

    Args:
        images: see `build_shards`, as for `metadata` and `options`.
        metadata: the release's.
        options: how to build.
        progress: of a session that is open.
        to: the dataset to push to, if any.
        private: see `push_shards`.

    Returns:
        What was built, or None if the session ended early with the finished shards kept; and the pushed dataset.

    Raises:
        ChexError: see `build_shards`.
        PublishError: the set is complete but could not be pushed.
    """
    try:
        manifest = build_shards(images, metadata, progress.out, options, progress)
    except Stopped:
        progress.session.paused()
        return None, None
    progress.built(manifest)
    pushed = push_shards(progress.out, to.repo_id, private=private) if to is not None else None
    progress.session.published(str(pushed) if pushed is not None else None)
    return manifest, pushed
