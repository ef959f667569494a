"""`chexvision runs compare` and `chexvision runs dashboard`: tables of many published runs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from chexvision.errors import UsageError


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
    from chexvision.evaluation.find_published import find_published, read_all_published
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
    title = title or f"Runs of {', '.join(sources)}"
    page = write_dashboard(runs, out, title)
    unread = sum(bool(run.problems) for run in runs)
    typer.echo(
        f"written: {page}, {len(runs)} runs" + (f"; of {unread} not everything can be shown" if unread else "")
    )
    if isinstance(target, RepoRef):
        from chexvision.app.deploy import deploy

        made = deploy(target.repo_id, space_files(page, title), "static", private=private)
        typer.echo(f"{made.address}: {made.commit}" + ("" if made.changed else ", as it was"))
