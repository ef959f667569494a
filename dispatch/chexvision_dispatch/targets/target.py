"""What every place that runs a bundle can do. A new one is a module with such a class and a line in `targets`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol

from chexvision.errors import ChexError
from chexvision_dispatch.run_records import RunRecord, Session

Phase = Literal["queued", "running", "complete", "error", "cancelled"]


class Refused(ChexError):
    """The target took nothing: no session of the run exists."""


class Busy(Refused):
    """It took nothing because as many sessions run as it allows: it may once one has ended."""


class NotAsRequested(ChexError):
    """A session runs, but not as it was to; `session` is to be recorded all the same."""

    def __init__(self, message: str, session: Session) -> None:
        super().__init__(message)
        self.session = session


@dataclass(frozen=True, slots=True)
class SessionState:
    """What a target says of a session.

    Args:
        phase: "complete" and "error" are about the script, not about what it computed.
        message: the target's own words, if any.
        exit_code: of the script, where the target tells.
    """

    phase: Phase
    message: str = ""
    exit_code: int | None = None

    @property
    def ended(self) -> bool:
        """Whether nothing more will come of the session."""
        return self.phase in ("complete", "error", "cancelled")


@dataclass(frozen=True, slots=True)
class GpuHours:
    """How long a run takes its target's accelerator.

    Args:
        hours: about so many; None where nothing was estimated.
        basis: what that is estimated from, in words.
        measured: whether that is a measurement, good enough to refuse a run that does not fit into a quota.
        force: start the run whatever is left of a quota.
    """

    hours: float | None = None
    basis: str = ""
    measured: bool = False
    force: bool = False


class Target(Protocol):
    """A place that runs scripts. `check`, `prepare` and `start` come in this order, the rest at any time later."""

    name: str
    reads_folders: bool
    """Whether a session sees the folders of this machine."""

    may_withhold: bool
    """Whether a session may start without the GPU or the internet that it requested."""

    has_token: bool
    """Whether its sessions are given a Hub token."""

    max_hours: float | None
    """After which a session has to have ended by itself, with its state saved; None for no limit."""

    def check(self, needs: GpuHours | None) -> list[str]:
        """Refuse now what would fail later.

        Args:
            needs: of the target's accelerator; None for a run that takes none.

        Returns:
            What the user should know.

        Raises:
            ChexError: credentials, a quota, a data source or an option will not do.
        """

    def prepare(self, record: RunRecord, folder: Path) -> list[str]:
        """Write what the target wants beside the script in `folder` for the run's next session.

        Returns:
            What the user should know.
        """

    def start(self, record: RunRecord, folder: Path) -> Session:
        """Run the script of `folder`, once, and return without waiting for its end.

        Raises:
            Refused: nothing runs.
            NotAsRequested: a session runs without something that it was to have.
            ChexError: whether something runs is not known.
        """

    def state(self, session: Session) -> SessionState:
        """What the target says of a session now.

        Raises:
            ChexError: it does not answer.
        """

    def log(self, session: Session, *, follow: bool) -> Iterator[str]:
        """What the session wrote, in pieces from its beginning; with `follow` until it ends.

        A connection that drops while following is taken up again where it was.

        Raises:
            ChexError: the target does not answer.
        """

    def cancel(self, session: Session) -> bool:
        """Ask a session to save its state and end; False where this target cannot pass that on.

        Raises:
            ChexError: it could, but did not.
        """

    def kill(self, session: Session, kaggle_session_id: int | None) -> None:
        """End a session at once, without a chance to save anything.

        Args:
            session: one that goes on.
            kaggle_session_id: see `RunProgress`.

        Raises:
            ChexError: it could not be ended.
        """

    def hands_on(self, session: Session) -> bool:
        """Whether the run's next session is given the files that this one, which ended, left.

        Raises:
            ChexError: the target does not answer.
        """

    def collect(self, session: Session, folder: Path, names: Sequence[str]) -> Path | None:
        """Bring some of what an ended session left, each file whole.

        Args:
            session: one that ended.
            folder: receives the files under the names they had, where they are not on this machine yet.
            names: of the files to bring, or of folders, with a slash at the end.

        Returns:
            The folder they are in; None where this target keeps nothing of a session.

        Raises:
            ChexError: a file could not be brought.
        """
