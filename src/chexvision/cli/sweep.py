"""`chexvision sweep`: a study, which is a recipe and its variants, run as a whole and compared."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from chexvision.cli import one_line
from chexvision.cli.names import DEFAULT_TARGET, Data, Force, Overrides, Preset, PrivateModel, StudyName, Where
from chexvision.cli.target_options import CommandWithTargets, given_options
from chexvision.errors import ChexError, UsageError
from chexvision_dispatch.targets.registry import target_class

if TYPE_CHECKING:
    from chexvision.cli.dispatch import Sending
    from chexvision_dispatch.studies.scheduler import Scheduler
    from chexvision_dispatch.studies.sending import Destination
    from chexvision_dispatch.studies.study_file import Study

FAILED, NOT_FINISHED, DETACHED = 1, 75, 130  # as `runs wait` exits
_AT_A_TIME = 2  # GPU sessions that Kaggle allows

Parallel = Annotated[
    int | None,
    typer.Option(min=1, help=f"Runs at a time.  [default: {_AT_A_TIME}, as Kaggle allows; on this machine 1]"),
]
RetryFailed = Annotated[bool, typer.Option("--retry-failed", help="Resume or repeat the runs that failed.")]


def train_ensemble(study: Study, sending: Sending, *, data: str | None, to: str | None, private: bool) -> None:
    """Train the seeds of a recipe as a study, and publish them as one ensemble: `chexvision dispatch --seeds`."""
    from chexvision.hub.reference import parse_reference
    from chexvision_dispatch.resolve import destination
    from chexvision_dispatch.studies.sending import Destination

    folder = None
    if to is not None:
        destination(to, study.published_as, folders=target_class(sending.on).is_here)
        folder = to if isinstance(parse_reference(to), Path) else None
    # An ensemble has copies of its members: those of one in a folder stay where they were trained.
    where = Destination(sending.on, sending.given, data, None if folder else to, private, sending.force)
    if sending.dry_run:
        print_plan(study, where)
        return
    how = How(retry_failed=True, watch=sending.watch is not False)
    run_study(study, where, how, lambda scheduler: _publish_ensemble(scheduler, folder))


def _publish_ensemble(scheduler: Scheduler, folder: str | None) -> None:
    from chexvision_dispatch.studies.seed_ensemble import publish_ensemble

    default = Path("runs") / scheduler.study.name / "ensemble"
    published = publish_ensemble(scheduler, Path(folder).expanduser() if folder else None, default)
    if published is not None:
        typer.echo(f"ensemble {published}")


@dataclass(frozen=True, slots=True)
class How:
    """How a study is run; the options' own help describes each."""

    parallel: int | None = None
    retry_failed: bool = False
    watch: bool = True


class SweepCommand(CommandWithTargets):
    """Its runs take a GPU."""

    takes_gpu = True


def sweep(
    context: typer.Context,
    study: StudyName,
    on: Where = DEFAULT_TARGET,
    data: Data = None,
    to: Annotated[
        str | None,
        typer.Option(
            help="Where all runs publish, each with a tag of its own: USER/REPO, or on this machine a folder. "
            "[default: <you>/chexvision-<study>; on this machine: each stays in its run's folder]"
        ),
    ] = None,
    overrides: Overrides = None,
    preset: Preset = None,
    private: PrivateModel = False,
    parallel: Parallel = None,
    retry_failed: RetryFailed = False,
    force: Force = False,
    watch: Annotated[
        bool, typer.Option("--watch/--detach", help="Stay until all have ended, or send what there is room for.")
    ] = True,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="List the runs and their GPU hours, and send nothing.")
    ] = False,
    out: Annotated[Path | None, typer.Option(help="Folder of the report.  [default: runs/<study>]")] = None,
) -> None:
    """Run a study, a few runs at a time, and compare its variants. The same command continues it."""
    from chexvision_dispatch.studies.sending import Destination
    from chexvision_dispatch.studies.study_file import read_study

    found = read_study(study, preset=preset, overrides=overrides or [])
    where = Destination(on, given_options(context), data, to, private, force)
    if dry_run:
        print_plan(found, where)
        return
    from chexvision.report.study_report import refuse_file

    folder = out or Path("runs") / found.name
    refuse_file(folder)  # not after all runs have ended
    run_study(found, where, How(parallel, retry_failed, watch), lambda scheduler: _report(scheduler, folder))


def print_plan(study: Study, where: Destination) -> None:
    """The runs of a study with their GPU hours, and what is left of the week's."""
    from chexvision_dispatch.studies.sending import check_data, estimate, quota_of
    from chexvision_dispatch.studies.study_state import StateFile, state_path

    _check_options(where)
    state = StateFile(state_path(study.name))
    data = check_data(study, where, state.state.data)
    width = max(len(run.name) for run in study.runs)
    waiting, unknown, first = 0.0, False, dict[str, str]()
    for run in study.runs:
        key = data.key(run)
        needs = estimate(run, where)
        text = f"about {needs.hours:.1f} GPU hours ({needs.basis})" if needs and needs.hours is not None else ""
        if key in first:
            text = f"the run of {first[key]}"
        elif state.record(key) is not None:
            text = f"sent: {state.state.runs[key]}"
        elif needs is not None:
            waiting, unknown = waiting + (needs.hours or 0.0), unknown or needs.hours is None
        first.setdefault(key, run.name)
        typer.echo(f"run    {run.name:{width}}  {text}".rstrip())
    for note in data.notes:
        typer.echo(f"note   {note}")
    if target_class(where.on).has_quota:
        least = "at least " if unknown else ""
        typer.echo(f"total  {least}{waiting:.1f} GPU hours to be sent, {_quota_text(lambda: quota_of(where))}")
    typer.echo("dry run: nothing was sent")


def run_study(study: Study, where: Destination, how: How, finish: Callable[[Scheduler], object]) -> None:
    """Run a study as far as it goes now, and exit with 75 where that is not to its end, with 1 where runs failed.

    Args:
        study: the study.
        where: to run it.
        how: to run it.
        finish: called once every run has ended.
    """
    from chexvision_dispatch.studies.scheduler import Scheduler
    from chexvision_dispatch.studies.sending import check_data
    from chexvision_dispatch.studies.study_state import open_state

    _check_options(where)
    parallel = how.parallel or (1 if target_class(where.on).computes_here else _AT_A_TIME)
    with open_state(study.name) as state:
        data = check_data(study, where, state.state.data)
        if data.pinned != state.state.data:
            state.change(data=dict(data.pinned))
        for note in data.notes:
            _say(f"note: {note}")
        scheduler = Scheduler(study, where, data, state, parallel, _say)
        try:
            scheduler.begin(retry_failed=how.retry_failed)
            _say(f"study {study.name}: {_counts(scheduler)}")
            scheduler.work(watch=how.watch)
            if all(standing.is_over for standing in scheduler.standings.values()):
                finish(scheduler)
        except KeyboardInterrupt:
            _say(f"\ndetached: {_counts(scheduler)}. Sessions go on; the same command continues the study")
            raise typer.Exit(DETACHED) from None
        if not all(standing.is_over for standing in scheduler.standings.values()):
            _say_what_is_left(scheduler)
            raise typer.Exit(NOT_FINISHED)
    if any(standing.status != "complete" for standing in scheduler.standings.values()):
        repeat = "the same command" if how.retry_failed else "the same command with --retry-failed"
        _say(f"study {study.name}: {_counts(scheduler)}; {repeat} repeats what failed")
        raise typer.Exit(FAILED)


def _check_options(where: Destination) -> None:
    if "run_dir" in where.given:
        raise UsageError("--run-dir is the folder of one run; those of a study are in runs/<run id>: leave it out")


def _report(scheduler: Scheduler, out: Path) -> None:
    from chexvision.console import LiteralConsole
    from chexvision.report.study_report import left_out_table, study_table, write_study
    from chexvision.report.table import print_table
    from chexvision_dispatch.studies.results import results_of

    results = results_of(scheduler, out)
    write_study(results, out)
    console = LiteralConsole()
    print_table(console, study_table(results))
    if results.left_out:
        print_table(console, left_out_table(results))
    console.print(f"written: {out}/study.html, study.md, study.svg, study.json", soft_wrap=True)


def _say_what_is_left(scheduler: Scheduler) -> None:
    from chexvision_dispatch.studies.sending import estimate, quota_of

    where, hours, refused = scheduler.where, 0.0, list[str]()
    for standing in scheduler.standings.values():
        if standing.view is None:
            needs = estimate(standing.run, where)
            hours += (needs.hours or 0.0) if needs is not None else 0.0
            refused += [f"{standing.run.name} was not sent: {standing.left}"] if standing.left is not None else []
        elif standing.left is not None:
            _say(f"{standing.run.name}: {standing.status}: {standing.left}")
    if refused:  # they differ in little but their name
        _say(refused[0] + (f" (and {len(refused) - 1} more)" if len(refused) > 1 else ""))
    text = f"study {scheduler.study.name} is not finished: {_counts(scheduler)}"
    if target_class(where.on).has_quota:
        text += f"; {hours:.1f} GPU hours are to be sent, {_quota_text(lambda: quota_of(where))}"
    _say(f"{text}. The same command continues it")


def _quota_text(quota: Callable[[], object]) -> str:
    try:
        return f"quota: {quota()}"
    except ChexError as error:  # the list of runs is worth having without it
        return f"the quota is unknown ({error})"


def _counts(scheduler: Scheduler) -> str:
    from chexvision_dispatch.studies.scheduler import by_status

    return ", ".join(f"{count} {status}" for status, count in by_status(scheduler.standings).items())


def _say(text: str) -> None:
    print(f"\n{one_line(text)}" if text.startswith("\n") else one_line(text), file=sys.stderr, flush=True)
