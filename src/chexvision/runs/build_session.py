"""A session that builds shards: its progress is images, its state the shards that are finished."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path

from chexvision.hub.reference import RepoRef
from chexvision.runs.branch import RunBranch
from chexvision.runs.session import Session
from chexvision.shards.build import BuildOptions, Stopped, build_shards
from chexvision.shards.ledger import LEDGER_NAME, Ledger, kept_files
from chexvision.shards.manifest import Manifest
from chexvision.shards.push import push_shards


class ShardsSession(Session):
    """A `Session` around building; see there for its arguments. The shards end in ``WORK/shards``."""

    def __init__(
        self, work: Path, run_id: str, *, max_hours: float | None = None, branch: RunBranch | None = None
    ) -> None:
        self.out = work / "shards"
        self._partial = work / "shards.partial"
        self._began = time.monotonic()
        self._done_before = 0
        super().__init__(work, run_id, max_hours=max_hours, branch=branch)

    def state_files(self) -> Mapping[str, Path]:
        """The finished shards with their ledger, or the whole set once it is built."""
        built = sorted(path for path in self.out.rglob("*") if path.is_file())
        return self._named(built or kept_files(self._partial))

    def unsent_files(self) -> Mapping[str, Path]:
        """None: each shard is handed on when it is finished."""
        return {}

    def so_far(self) -> str:
        """The images in finished shards."""
        return f"with {self.progress.images_done:,} of {self.progress.images or 0:,} images in finished shards"

    def begins(self, images: int, ledger: Ledger) -> None:
        """Building begins, behind the shards of `ledger`."""
        self._began, self._done_before = time.monotonic(), ledger.rows
        self.tell(status="building", images=images, images_done=ledger.rows)
        if ledger.finished:
            print(f"going on behind {ledger.rows:,} of {images:,} images in finished shards", flush=True)
            # The branch may lack some: they may come from an earlier session's output.
            self.hand_on(self.state_files(), "Finished shards")

    def finished(self, ledger: Ledger) -> None:
        """The last shard of `ledger` is finished."""
        rate = (ledger.rows - self._done_before) / max(time.monotonic() - self._began, 1e-9)
        left = ((self.progress.images or 0) - ledger.rows) / rate
        self.tell(images_done=ledger.rows, seconds_left=round(max(left, 0.0), 1))
        shard = ledger.finished[-1].shard
        files = [self._partial / shard.path, self._partial / LEDGER_NAME]
        self.hand_on(self._named(files), f"{shard.rows:,} images of {shard.split}")

    def _named(self, paths: list[Path]) -> dict[str, Path]:
        return {path.relative_to(self.work).as_posix(): path for path in paths}

    def built(self, manifest: Manifest) -> None:
        """All shards are whole; whether they are pushed shows next."""
        self.tell(status="complete", images=manifest.images, images_done=manifest.images, seconds_left=0.0)


def build_and_push(
    images: list[Path],
    metadata: Path,
    options: BuildOptions,
    session: ShardsSession,
    to: RepoRef | None = None,
    *,
    private: bool = False,
) -> tuple[Manifest | None, RepoRef | None]:
    """Build shards into the session's folder, behind those that are finished, and push them.

    Args:
        images: see `build_shards`, as for `metadata` and `options`.
        metadata: the release's.
        options: how to build.
        session: which is open.
        to: the dataset to push to, if any.
        private: see `push_shards`.

    Returns:
        What was built, or None if the session ended early with the finished shards kept; and the pushed dataset.

    Raises:
        ChexError: see `build_shards`.
        PublishError: the set is whole but could not be pushed.
    """
    try:
        manifest = build_shards(images, metadata, session.out, options, session)
    except Stopped:
        session.paused()
        return None, None
    session.built(manifest)
    pushed = push_shards(session.out, to.repo_id, private=private) if to is not None else None
    session.published(str(pushed) if pushed is not None else None)
    return manifest, pushed
