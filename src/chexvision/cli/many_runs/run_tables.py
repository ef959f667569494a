"""`chexvision runs compare` and `chexvision runs dashboard`: tables of many published runs."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from chexvision.errors import UsageError

if TYPE_CHECKING:
    from chexvision.hub.reference import Reference


def dashboard(
    out: Annotated[Path, typer.Option(help="Folder for index.html, which needs nothing else and no network.")],
    sources: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[SOURCE...]",
            help="A user or organization of the Hub, USER/REPO[@REV], or a folder of models.  [default: you]",
            show_default=False,
        ),
    ] = None,
    title: Annotated[str | None, typer.Option(help="Of the page.", show_default=False)] = None,
    private: Annotated[bool, typer.Option("--private", help="Show private models, too.")] = False,
    space: Annotated[
        str | None,
        typer.Option(metavar="USER/NAME", help="Publish the page as this static Space.", show_default=False),
    ] = None,
) -> None:
    """Make one page of all published runs, from their history and metrics."""
    from chexvision.artifact.find_published import find_published, read_all_published
    from chexvision.hub.account import machine_token
    from chexvision.hub.reference import RepoRef, parse_reference
    from chexvision.progress import Progress
    from chexvision.report.many_runs.dashboard import refuse_other_page, space_files, write_dashboard

    target = parse_reference(space) if space is not None else None
    if target is not None and (not isinstance(target, RepoRef) or target.revision is not None):
        raise UsageError(f"--space {space} is not the name of a Space; write USER/NAME")
    refuse_other_page(out)
    if not sources:
        token = machine_token()
        if token is None:
            raise UsageError("name a user of the Hub or a folder of models, or log in (hf auth login)")
        sources = [token.user]
    references = find_published(sources, private=private)
    with Progress("reading", len(references), "runs") as progress:
        runs = read_all_published(references, progress.advance)
    hidden = [run.name for run in runs if run.private]
    if target is not None and hidden and not private:
        raise UsageError(f"{hidden[0]} is private, and anybody could see it at --space {space}; add --private")
    # A folder by its name alone: the page may be published, and a path can contain the name of a person.
    named = [Path(source).resolve().name if Path(source).is_dir() else source for source in sources]
    title = title or f"Runs of {', '.join(named)}"
    page = write_dashboard(runs, out, title)
    unread = sum(bool(run.problems) for run in runs)
    count = f"{len(runs)} run{'' if len(runs) == 1 else 's'}"
    typer.echo(f"written: {page}, {count}" + (f"; of {unread} not everything can be shown" if unread else ""))
    if isinstance(target, RepoRef):
        from chexvision.app.deploy import deploy

        made = deploy(target.repo_id, space_files(page, title), "static", private=private)
        typer.echo(f"{made.address}: {made.commit}" + ("" if made.changed else ", as it was"))


def compare(
    runs: Annotated[
        list[str],
        typer.Argument(
            metavar="A B...", help="Ids of runs (or their beginnings), folders of models, or USER/REPO[@REV]."
        ),
    ],
    data: Annotated[
        str | None,
        typer.Option(
            help="Where the data are, for the paired test.  [default: where A had them]", show_default=False
        ),
    ] = None,
    paired: Annotated[
        bool, typer.Option("--paired/--no-paired", help="Test differences by image, which reads the data's labels.")
    ] = True,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    as_csv: Annotated[bool, typer.Option("--csv", help="Print CSV, a row of each run and output.")] = False,
) -> None:
    """Compare published runs: what differs in their recipes, their curves and results, and whether that is chance."""
    from chexvision.artifact.find_published import read_all_published
    from chexvision.console import LiteralConsole
    from chexvision.evaluation.many_runs.run_comparison import compare_runs
    from chexvision.hub.reference import parse_reference
    from chexvision.report.many_runs.comparison_csv import comparison_csv
    from chexvision.report.many_runs.comparison_text import print_run_comparison

    if as_json and as_csv:
        raise UsageError("choose one of --json and --csv")
    if len(runs) < 2:
        raise UsageError("name two or more runs to compare")
    references = [_published(run) for run in runs]
    if len(set(references)) < len(references):
        raise UsageError("a run is named twice; name each once")
    found = compare_runs(
        read_all_published(references), paired=paired, data=parse_reference(data) if data is not None else None
    )
    if as_json:
        typer.echo(found.model_dump_json(indent=2))
    elif as_csv:
        typer.echo(comparison_csv(found), nl=False)
    else:
        print_run_comparison(LiteralConsole(), found)


def _published(run: str) -> Reference:
    """Where a run was published: a run of this machine by its id, or a folder or repository itself."""
    from chexvision.hub.reference import parse_reference
    from chexvision_dispatch.run_records import find

    if "/" in run or Path(run).is_dir():
        return parse_reference(run)
    record = find(run)
    if record.published is None:
        raise UsageError(
            f"{record.run_id} is not known to be published; see chexvision runs status, or publish it "
            f"with: chexvision runs collect {record.run_id}"
        )
    return parse_reference(record.published)
