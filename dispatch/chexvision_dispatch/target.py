"""What every place that runs a bundle can do."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

from chexvision.errors import ChexError
from chexvision_dispatch.records import RunRecord, Session


class Refused(ChexError):
    """The target took nothing: no session of the run exists."""


class Target(Protocol):
    """A place that runs scripts. `check`, `prepare` and `start` are called in this order, then `follow`."""

    name: str
    reads_folders: bool
    """Whether a session sees the folders of this machine."""

    def check(self) -> None:
        """Refuse now, before anything is packed, what would fail later.

        Raises:
            ChexError: credentials, a data source or an option will not do.
        """

    def prepare(self, record: RunRecord, folder: Path) -> list[str]:
        """Write what the target wants beside the script in `folder`; returns what the user should know."""

    def start(self, record: RunRecord, folder: Path) -> Session:
        """Run the script of `folder`, once, and return without waiting for its end.

        Raises:
            Refused: nothing runs.
            ChexError: whether something runs is not known, or what runs is not what was asked for.
        """

    def follow(self, session: Session) -> Session:
        """Stay with a session as long as this target's user expects, and say how to look at it later."""
