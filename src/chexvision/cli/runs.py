"""`chexvision runs`: the status of what was dispatched, and resuming it."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, TypeVar

import typer

from chexvision.cli import one_line, run_view
from chexvision.cli.names import Run
from chexvision.errors import ChexError, UsageError

if TYPE_CHECKING:
    from rich.console import RenderableType

    from chexvision_dispatch.run_records import RunRecord
    from chexvision_dispatch.view import RunView

app = typer.Typer(
    help="Follow, end, resume and collect runs. RUN is an id or a prefix of one. [default: the last run]",
    no_args_is_help=True,
    rich_markup_mode=None,
)

Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
T = TypeVar("T")

_DETACHED = 130
_CONTINUES = "the run continues"
_GRACE_MINUTES = 5.0  # a session polls for stop requests every minute, and then uploads its state


@app.command("list")
def list_runs(as_json: Json = False) -> None:
    """Show all runs and their status; exits with 1 if a record cannot be read."""
    from chexvision_dispatch import run_records as records

    damaged: list[ChexError] = []
    views = [_polled(record) for record in records.every(damaged.append)]
    if as_json:
        _print_json([view.as_json() for view in views])
    elif not views and not damaged:
        typer.echo("no runs yet; start one with: chexvision dispatch --model densenet")
    else:
        for view in views:
            text = f"{view.record.run_id:40} {view.record.target:8} {view.status:11} {run_view.in_short(view)}"
            print(text.rstrip())
    sys.stdout.flush()
    for error in damaged:
        print(f"error: {one_line(str(error))}", file=sys.stderr)
    if damaged:
        raise typer.Exit(1)


@app.command("status")
def status(
    run: Run = None,
    watch: Annotated[bool, typer.Option("--watch", "-w", help="Redraw it until the run ends.")] = False,
    as_json: Json = False,
) -> None:
    """Show the status of a run: what its target reports, and the run's own curve."""
    from chexvision_dispatch.view import EXIT_CODES, poll

    record = _found(run)
    if not watch:
        _show(poll(record), as_json)
        return
    view = _attended(record, lambda: _watch(record))
    raise typer.Exit(EXIT_CODES[view.status])


@app.command("logs")
def logs(
    run: Run = None,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Continue until the run ends.")] = False,
    as_json: Json = False,
) -> None:
    """Show what a run's last session wrote; with -f exit with the run's outcome."""
    from chexvision_dispatch import runs

    record = _found(run)
    write = _write_json_line if as_json else _write
    if not follow:
        for text in runs.log(record):
            write(text)
        return
    view = _attended(record, lambda: runs.follow(record, write))
    _say_end(view, as_json)


@app.command("wait")
def wait(
    run: Run = None,
    auto_resume: Annotated[
        bool, typer.Option("--auto-resume", help="Start the next session when one pauses at its time limit.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Wait for the end and exit with the run's outcome: 0 complete, 75 paused, 1 failed, 3 not published."""
    from chexvision_dispatch import runs

    record = _found(run)
    view = _attended(record, lambda: runs.attend(record, runs.wait, _say, auto_resume=auto_resume))
    _say_end(view, as_json)


@app.command("cancel")
def cancel(
    run: Run = None,
    at_once: Annotated[
        bool, typer.Option("--now", help="Wait for it to end, and kill it if it takes longer than the grace period.")
    ] = False,
    grace_minutes: Annotated[
        float | None,
        typer.Option(
            metavar="MINUTES",
            help=f"(--now) Grace period to save its state in.  [default: {_GRACE_MINUTES:g}]",
            show_default=False,
        ),
    ] = None,
    as_json: Json = False,
) -> None:
    """Ask a run to save its state and end."""
    from chexvision_dispatch import runs

    if grace_minutes is not None and (not at_once or not 0 <= grace_minutes < math.inf):
        raise UsageError(f"--grace-minutes {grace_minutes:g} must be 0 or more, and goes with --now")
    record = _found(run)
    if at_once:
        grace_s = 60 * (_GRACE_MINUTES if grace_minutes is None else grace_minutes)
        steps: list[str] = []

        def say(step: str) -> None:
            steps.append(step)
            _say(step)

        view = _attended(
            record,
            lambda: runs.end(record, grace_s, say),
            lambda: f"last step: {steps[-1]}" if steps else _CONTINUES,
        )
        if as_json:
            _print_json(view.as_json())
        else:
            _print_end(view)
        return
    done = runs.cancel(record)
    if as_json:
        _print_json({"run_id": record.run_id, "done": done})
    else:
        typer.echo(f"{record.run_id}: {done}")


@app.command("resume")
def resume(
    run: Run = None,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Stay and show its log.")] = False,
    as_json: Json = False,
) -> None:
    """Resume a run that paused, failed or was killed: the same bundle, from its last state."""
    from chexvision_dispatch import runs

    record, notes = runs.resume(_found(run))
    session = record.sessions[-1]
    if as_json:
        _print_json({"run_id": record.run_id, "session": len(record.sessions), "page": session.page, "notes": notes})
    else:
        typer.echo(f"run    {record.run_id}, session {len(record.sessions)}")
        for note in notes:
            typer.echo(f"note   {note}")
        typer.echo(_where(record))
    if follow:
        _say_end(_attended(record, lambda: runs.follow(record, _write)), as_json)


@app.command("collect")
def collect(
    run: Run = None,
    to: Annotated[
        str | None, typer.Option(help="USER/REPO or a folder. [default: where the run was to publish]")
    ] = None,
    as_json: Json = False,
) -> None:
    """Download a complete run's artifact, verify and publish it; of a failed run, its state to resume from."""
    from chexvision_dispatch import collect as collecting

    record = _found(run)
    collected = collecting.collect(record, to)
    if as_json:
        folder = str(collected.folder) if collected.folder else None
        state = collected.state.what if collected.state else None
        result = {"run_id": record.run_id, "folder": folder, "published": collected.published, "state": state}
        _print_json({**result, "notes": collected.notes})
        return
    if collected.state is not None:
        typer.echo(f"state  {collected.state.what}")
        obstacle = collected.state.obstacle
        typer.echo(f"note   no session reaches it: {obstacle}" if obstacle else _next_resume(record))
        return
    for note in collected.notes:
        print(f"note: {note}", file=sys.stderr)
    if collected.folder is None:
        typer.echo(f"published before: {collected.published}")
        return
    typer.echo(f"artifact {collected.folder}")
    typer.echo(
        f"published: {collected.published}" if collected.published else "published nowhere; name a destination: --to"
    )


def _found(run: str | None) -> RunRecord:
    from chexvision_dispatch.run_records import find

    return find(run)


def _attended(record: RunRecord, stay: Callable[[], T], left: Callable[[], str] = lambda: _CONTINUES) -> T:
    """Follow a run; on Ctrl-C print how it was left, and exit."""
    try:
        return stay()
    except KeyboardInterrupt:
        print(
            f"\ndetached; {left()}. Come back with: chexvision runs logs -f {record.run_id}, "
            f"end it with: chexvision runs cancel {record.run_id}",
            file=sys.stderr,
        )
        raise typer.Exit(_DETACHED) from None


def show_log(record: RunRecord, auto_resume: bool) -> None:
    """Show the log of a run until it ends, and exit with its outcome."""
    from chexvision_dispatch import runs

    view = _attended(
        record, lambda: runs.attend(record, lambda one: runs.follow(one, _write), _say, auto_resume=auto_resume)
    )
    _say_end(view, as_json=False)


def _polled(record: RunRecord) -> RunView:
    """The status of a run; "unknown" where its target does not answer."""
    from chexvision_dispatch.view import RunView, poll

    try:
        return poll(record)
    except ChexError as error:
        return RunView(record, "unknown", str(error))


def _say_end(view: RunView, as_json: bool) -> None:
    from chexvision_dispatch.view import EXIT_CODES

    if as_json:
        _print_json(view.as_json())
    else:
        _print_end(view)
    raise typer.Exit(EXIT_CODES[view.status])


def _print_end(view: RunView) -> None:
    sys.stdout.flush()
    _say(f"{view.record.run_id} is {view.status}{': ' if view.message else ''}{view.message}")
    hint = run_view.next_step(view)
    if hint:
        _say(f"next: {hint}")


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def _show(view: RunView, as_json: bool) -> None:
    if as_json:
        _print_json(view.as_json())
        return
    for line in run_view.lines(view):
        print(line)


def _watch(record: RunRecord) -> RunView:
    from rich.console import Console
    from rich.live import Live
    from rich.text import Text

    from chexvision_dispatch import runs

    def rendered(view: RunView) -> RenderableType:
        return Text("\n".join(run_view.lines(view)))

    with Live(Text(f"polling {record.run_id} …"), console=Console(), auto_refresh=False) as live:
        return runs.wait(record, lambda view: live.update(rendered(view), refresh=True))


def _next_resume(record: RunRecord) -> str:
    return f"next   chexvision runs resume {record.run_id}"


def _where(record: RunRecord) -> str:
    session = record.sessions[-1]
    return f"page   {session.page}" if session.page else f"log    chexvision runs logs -f {record.run_id}"


def _write(text: str) -> None:
    sys.stdout.write(text)
    sys.stdout.flush()


def _write_json_line(text: str) -> None:
    _write(json.dumps({"data": text}) + "\n")


def _print_json(value: object) -> None:
    print(json.dumps(value, indent=2))
