"""Running a study: its runs are sent, followed, resumed and collected, a few at a time."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from chexvision.errors import ChexError
from chexvision.retry import is_transient
from chexvision_dispatch import run_records as records
from chexvision_dispatch import runs
from chexvision_dispatch.collect import collect
from chexvision_dispatch.polling import until_answered
from chexvision_dispatch.run_records import RunRecord
from chexvision_dispatch.studies.sending import Datasets, Destination, send
from chexvision_dispatch.studies.study_file import Study, StudyRun
from chexvision_dispatch.studies.study_state import StateFile
from chexvision_dispatch.targets.target import Busy, NotAsRequested, Refused
from chexvision_dispatch.view import RunView, poll, target_of

_PASSES_WITHOUT_ROOM = 8  # two minutes: each try packs the source and asks again
COMPLETE = ("complete",)
FAILED = ("failed", "cancelled")
_LIVE = ("queued", "running")
# How a run is where what follows its end failed; it is not known where its target refused to tell.
_AFTER_ERROR = {"complete": "unpublished", "unpublished": "unpublished", "paused": "paused"}


@dataclass(slots=True)
class Standing:
    """How far the run of one key is.

    Args:
        run: what it trains; of several runs that train the same, the first.
        view: its status; None while it was not sent.
        left: why this command does nothing more about it; None as long as it may.
    """

    run: StudyRun
    view: RunView | None = None
    left: str | None = None

    @property
    def status(self) -> str:
        """ "waiting", or that of `RunView`."""
        return self.view.status if self.view is not None else "waiting"

    @property
    def is_live(self) -> bool:
        """Whether a session of it runs."""
        return self.status in _LIVE

    @property
    def is_over(self) -> bool:
        """Whether nothing is left to be done for it, until it is retried."""
        return self.status in (*COMPLETE, *FAILED)


@dataclass(slots=True)
class Scheduler:
    """The runs of a study and what is done about them.

    Args:
        study: the study.
        where: to run it.
        data: what it trains on.
        state: of the study; names the runs that were sent.
        parallel: how many sessions may run at a time.
        say: receives what is done, for the user.
        standings: by `StudyRun.key`, in the order of the study.
    """

    study: Study
    where: Destination
    data: Datasets
    state: StateFile
    parallel: int
    say: Callable[[str], object]
    standings: dict[str, Standing] = field(default_factory=dict)
    _resuming: dict[str, runs.AutoResume] = field(default_factory=dict)
    _waits: bool = False
    _skipped: int = 0  # more passes without a new session, after the target had no room

    def __post_init__(self) -> None:
        for run in self.study.runs:
            self.standings.setdefault(self.key(run), Standing(run))

    def key(self, run: StudyRun) -> str:
        """Of a run's standing."""
        return self.data.key(run)

    def begin(self, *, retry_failed: bool) -> None:
        """Find out how the runs of earlier commands are, and retry those that failed if that is asked for.

        Raises:
            ChexError: a record cannot be read.
        """
        for key, standing in self.standings.items():
            record = self.state.record(key)
            if record is None:
                continue
            self._follow(standing, record)
            if retry_failed and standing.view is not None and self._may_be_retried(standing, standing.view):
                self._retry(key, standing, standing.view)
            elif standing.status == "paused":
                standing.left = None  # typing the command again continues what paused for whatever reason

    def work(self, *, watch: bool) -> None:
        """Send, follow and resume until every run has ended or is refused; once, where `watch` is false.

        Raises:
            ChexError: something that concerns all runs: no credentials, or a destination that cannot be used.
        """
        while True:
            self.advance()
            if not watch or all(one.is_over or one.left is not None for one in self.standings.values()):
                return
            time.sleep(runs.POLL_S)

    def advance(self) -> None:
        """Poll the runs that were sent once, and use the room that is left."""
        for key, standing in self.standings.items():
            if standing.view is not None and standing.is_live:
                self._follow(standing, standing.view.record, self._auto(key, standing.run))
                self._report(standing)
                self._skipped = self._skipped if standing.is_live else 0
        if self._skipped:
            self._skipped -= 1
            return
        # Paused runs first: what was begun is finished before more is.
        for key, standing in sorted(self.standings.items(), key=lambda item: item[1].view is None):
            if sum(one.is_live for one in self.standings.values()) >= self.parallel:
                return
            ready = standing.left is None and not standing.is_live and not standing.is_over
            if ready and not self._start(key, standing):
                return

    def _follow(self, standing: Standing, record: RunRecord, resuming: runs.AutoResume | None = None) -> None:
        """Poll a run; where it ended, resume or publish it."""
        try:
            view = standing.view = until_answered(lambda: poll(record))
            following = resuming.next_session(view) if resuming is not None else None
            if following is not None:
                view = RunView(following, "queued")
            elif view.status in ("complete", "unpublished"):
                view = _published(view)
        except ChexError as error:  # the other runs go on
            known = standing.view.status if standing.view is not None else ""
            view = RunView(record, _AFTER_ERROR.get(known, "unknown"), str(error))
        standing.view = view
        found_by_starting = view.status == "unsent" and target_of(record).finds_lost_start
        if not standing.is_live and not standing.is_over and not found_by_starting:
            standing.left = view.message or view.status

    def _report(self, standing: Standing) -> None:
        if standing.view is not None and not standing.is_live:
            reason = f": {standing.view.message}" if standing.view.message else ""
            self.say(f"{standing.run.name}: {standing.status}{reason} ({standing.view.record.run_id})")

    def _auto(self, key: str, run: StudyRun) -> runs.AutoResume:
        return self._resuming.setdefault(key, runs.AutoResume(lambda text: self.say(f"{run.name}: {text}")))

    def _may_be_retried(self, standing: Standing, view: RunView) -> bool:
        """Whether a run failed; of one that its target refuses to show, a session may still run."""
        if standing.status != "unknown":
            return standing.status in FAILED
        if view.session is not None and view.session.outcome is not None:
            return True
        path = records.runs_dir() / f"{view.record.run_id}.json"
        standing.left = f"{standing.left}; not sent again, since it may run. If it is gone, remove {path}"
        return False

    def _retry(self, key: str, standing: Standing, view: RunView) -> None:
        """Resume a run that failed for a reason outside of it; replace one whose own code or recipe failed."""
        progress = view.progress
        standing.left = None
        if progress is not None and progress.state and progress.stop_reason != "error":
            standing.view = RunView(view.record, "paused", view.message)
        else:
            self.state.replace(key)
            standing.view = None

    def _start(self, key: str, standing: Standing) -> bool:
        """Send a run, or start its next session; returns whether there may be room for another one."""
        name, sent = standing.run.name, standing.view is not None
        try:
            notes = self._next_session(key, standing)
        except Busy as error:
            self._skipped = _PASSES_WITHOUT_ROOM
            if not self._waits:
                self._waits = True
                self.say(f"{name} waits for room: {error}")
            return False
        except Refused as error:
            standing.left = str(error)
            return True
        except NotAsRequested as error:
            notes = [str(error)]
        except ChexError as error:
            if is_transient(error):
                self._after_outage(key, standing, error)
                return False
            if not sent:
                raise
            standing.left = str(error)
            return True
        self._waits = False
        record = self.state.record(key)
        if record is None:
            raise ChexError(f"the record of {name} is gone from {self.state.path.parent.parent}")
        standing.view = RunView(record, "queued")
        self.say(f"{name}: session {len(record.sessions)} of {record.run_id} started")
        for note in notes:
            self.say(f"{name}: note: {note}")
        return True

    def _after_outage(self, key: str, standing: Standing, error: ChexError) -> None:
        """Have a run started later, unless that might start it twice."""
        record = self.state.record(key)
        if record is not None and not record.sessions:
            standing.view = RunView(record, "unsent")
            if not target_of(record).finds_lost_start:
                standing.left = str(error)
                return
        self._skipped = _PASSES_WITHOUT_ROOM
        self.say(f"{standing.run.name}: {error}; trying again")

    def _next_session(self, key: str, standing: Standing) -> Sequence[str]:
        if standing.view is not None:
            return runs.resume(standing.view.record)[1]
        data = self.data.of[standing.run.name]
        return send(self.study, standing.run, self.where, data, self.state, key)


def _published(view: RunView) -> RunView:
    """The view after publishing from this machine what the session did not publish where it should have.

    Raises:
        ChexError: see `collect`.
    """
    if view.record.published is not None or view.record.to is None:
        return view
    until_answered(lambda: collect(view.record, None))
    return until_answered(lambda: poll(view.record))


def by_status(standings: Mapping[str, Standing]) -> dict[str, int]:
    """How many runs are in each status."""
    found: dict[str, int] = {}
    for standing in standings.values():
        found[standing.status] = found.get(standing.status, 0) + 1
    return found
