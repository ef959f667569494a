"""Interface and options of a target, which runs bundles. A new one is a module and a line in `registry`."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, ClassVar, Literal, Self

import typer
from pydantic import BaseModel, ConfigDict, model_validator

from chexvision.errors import ChexError, UsageError
from chexvision.runs.run_progress import RunProgress
from chexvision_dispatch.run_records import RunRecord, Session

# A session ends by itself this long before it would be cut: the smaller of hours and a share of its length.
MARGIN_HOURS, MARGIN_SHARE = 1 / 3, 0.1

Phase = Literal["queued", "running", "complete", "error", "cancelled"]


class Refused(ChexError):
    """The target took nothing: no session of the run exists."""


class Busy(Refused):
    """It took nothing because as many sessions run as it allows: it may once one has ended."""


class NotAsRequested(ChexError):
    """A session runs, but without something that it needs; `session` has to be recorded nevertheless."""

    def __init__(self, message: str, session: Session) -> None:
        super().__init__(message)
        self.session = session


@dataclass(frozen=True, slots=True)
class SessionState:
    """What a target reports of a session.

    Args:
        phase: "complete" and "error" are about the script, not about what it computed.
        message: the target's own text, if any.
        exit_code: of the script, where the target reports it.
    """

    phase: Phase
    message: str = ""
    exit_code: int | None = None

    @property
    def ended(self) -> bool:
        """Whether nothing more will come of the session."""
        return self.phase in ("complete", "error", "cancelled")


@dataclass(frozen=True, slots=True)
class Quota:
    """GPU hours of this week.

    Args:
        used: by sessions that ended.
        reserved: for sessions that run.
        allowed: in all.
        refreshed: when the next week begins, such as "2026-01-03 00:00 UTC"; None where it is unknown.
        ever_run: whether the user ever started a session with a GPU.
    """

    used: float
    reserved: float
    allowed: float
    refreshed: str | None
    ever_run: bool

    @property
    def left(self) -> float:
        """Hours."""
        return max(0.0, self.allowed - self.used - self.reserved)

    def __str__(self) -> str:
        refreshed = f", refreshed {self.refreshed}" if self.refreshed else ""
        return f"{self.left:.1f} of {self.allowed:.0f} GPU hours left{refreshed}"


@dataclass(frozen=True, slots=True)
class GpuHours:
    """How long a run takes its target's accelerator.

    Args:
        hours: estimated; None where nothing was.
        basis: what that is estimated from, for the user.
        measured: whether that is a measurement, good enough to refuse a run that does not fit into a quota.
        force: start the run whatever is left of a quota.
    """

    hours: float | None = None
    basis: str = ""
    measured: bool = False
    force: bool = False


class TargetOptions(BaseModel):
    """Options of a target, without any secret; the run's record keeps them.

    Each field is an option of `chexvision dispatch`, declared as ``Annotated[type, typer.Option(help=...)]`` with a
    default; a validator's message is printed as it is.

    Attributes:
        instead: what to do on this target instead of giving an option of another one, by the option's name.
        for_gpu: names of the options that only work that takes a GPU has.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    instead: ClassVar[Mapping[str, str]] = {}
    for_gpu: ClassVar[Sequence[str]] = ()

    def for_run(self, run_id: str, *, dry_run: bool) -> Self:
        """The same with what follows from the run and from this machine, as it is recorded.

        Raises:
            UsageError: the run cannot be on this target.
        """
        return self

    @property
    def home(self) -> Path | None:
        """The run's folder, where the target is given one."""
        return None


class TimeLimit(TargetOptions):
    """Options of a target that cuts a session after a while."""

    model_config = ConfigDict(allow_inf_nan=True)  # refused by the check of the range, in its words

    longest: ClassVar[float]  # hours

    timeout_hours: Annotated[float, typer.Option(help="Time limit of the session; the run pauses before it.")] = 12.0

    @model_validator(mode="after")
    def _within_limit(self) -> Self:
        if not 0 < self.timeout_hours <= self.longest:
            raise ValueError(f"--timeout-hours {self.timeout_hours:g} must be above 0 and at most {self.longest:g}")
        return self

    @property
    def max_hours(self) -> float:
        """After which a session ends by itself, before it is cut."""
        return self.timeout_hours - min(MARGIN_HOURS, MARGIN_SHARE * self.timeout_hours)

    @property
    def timeout_s(self) -> int:
        """Seconds after which a session is cut."""
        return round(self.timeout_hours * 3600)


class RunFolder(TargetOptions):
    """Options of a target that runs scripts in a folder that this machine sees."""

    run_dir: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Folder of the run.  [default: runs/<run id>]")
    ] = None

    def for_run(self, run_id: str, *, dry_run: bool) -> Self:
        """In an empty folder of its own, which a dry run does not need."""
        folder = self.run_dir or Path("runs") / run_id
        if not dry_run and folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
            raise UsageError(f"--run-dir {folder} is not empty; name a new folder")
        return self.model_copy(update={"run_dir": folder.resolve()})

    @property
    def home(self) -> Path | None:
        """The folder: the script starts in its ``working``, next to ``input`` and ``tmp``."""
        return self.run_dir


class Target(ABC):
    """Runs scripts. `check`, `prepare` and `start` come in this order, the rest at any time later.

    Args:
        options: its own.
        dry_run: whether nothing is sent, and no service is called.

    Attributes:
        name: in the registry.
        Options: the class of its options.
        is_here: whether sessions see this machine's folders.
        computes_here: whether sessions compute on this machine.
        may_withhold: whether a session may start without the GPU or the internet that it requested.
        has_release: whether the NIH release's Kaggle dataset can be attached.
        has_quota: whether GPU hours are counted.
        finds_lost_start: whether `start` finds a session whose start was not recorded, instead of starting another.
        max_hours: after which a session has to have ended by itself, with its state saved; None for no limit.
    """

    name: ClassVar[str]
    Options: ClassVar[type[TargetOptions]]
    is_here: ClassVar[bool] = False
    computes_here: ClassVar[bool] = False
    may_withhold: ClassVar[bool] = False
    has_release: ClassVar[bool] = False
    has_quota: ClassVar[bool] = False
    finds_lost_start: ClassVar[bool] = False
    max_hours: float | None = None
    options: TargetOptions

    def __init__(self, options: TargetOptions, *, dry_run: bool = False) -> None:
        self.options = options

    @property
    def has_token(self) -> bool:
        """Whether its sessions are given a Hub token."""
        return True

    def quota(self) -> Quota | None:
        """What is left of the week's GPU hours; None where they are not counted.

        Raises:
            ChexError: the target does not answer.
        """
        return None

    def check(self, needs: GpuHours | None) -> list[str]:
        """Refuse now what would fail later.

        Args:
            needs: of the target's accelerator; None for a run that takes none.

        Returns:
            What the user should know.

        Raises:
            ChexError: credentials, a quota, a data source or an option is not usable.
        """
        return []

    def prepare(self, record: RunRecord, folder: Path) -> list[str]:
        """Write what the target needs next to the script in `folder` for the run's next session, if anything.

        Returns:
            What the user should know.
        """
        return []

    @abstractmethod
    def start(self, record: RunRecord, folder: Path) -> Session:
        """Run the script of `folder`, once, and return without waiting for its end.

        Raises:
            Refused: nothing runs.
            NotAsRequested: a session runs without something that it needs.
            ChexError: whether something runs is not known.
        """

    @abstractmethod
    def state(self, session: Session) -> SessionState:
        """What the target reports of a session now.

        Raises:
            ChexError: it does not answer.
        """

    @abstractmethod
    def log(self, session: Session, *, follow: bool) -> Iterator[str]:
        """What the session wrote, in pieces from its beginning; with `follow` until it ends.

        A connection that drops while following is resumed where it was.

        Raises:
            ChexError: the target does not answer.
        """

    @abstractmethod
    def cancel(self, session: Session) -> bool:
        """Ask a session to save its state and end; False where this target cannot pass that on.

        Raises:
            ChexError: it could, but did not.
        """

    @abstractmethod
    def kill(self, session: Session, progress: RunProgress | None) -> None:
        """End a session at once, without a chance to save anything.

        Args:
            session: one that has not ended.
            progress: what that session reported of itself, if anything.

        Raises:
            ChexError: it could not be ended.
        """

    def passes_files_on(self, session: Session) -> bool:
        """Whether the run's next session is given the files that this one, which ended, left.

        Raises:
            ChexError: the target does not answer.
        """
        return False

    def collect(self, session: Session, folder: Path, names: Sequence[str]) -> Path | None:
        """Download some of what an ended session left, each file atomically.

        Args:
            session: one that ended.
            folder: receives the files under the names they had, where they are not on this machine yet.
            names: of the files, or of folders, with a slash at the end.

        Returns:
            The folder they are in; None where this target keeps nothing of a session.

        Raises:
            ChexError: a file could not be downloaded.
        """
        return None
