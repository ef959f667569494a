"""`chexvision labels`: your own tables of labels."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from chexvision.errors import UsageError

app = typer.Typer(help="Use your own tables of labels.", no_args_is_help=True, rich_markup_mode=None)


@app.callback()
def _labels() -> None:
    pass  # with a callback, a single command keeps its name


@app.command()
def template(
    table: Annotated[Path, typer.Argument(metavar="TABLE.csv", help="Your table, CSV or CSV.gz, with heads.")],
    out: Annotated[Path | None, typer.Option("--out", help="File to write.  [default: standard output]")] = None,
) -> None:
    """Guess what the columns of a table mean and write a label map to start from; check every line of it."""
    from chexvision.files.atomic import write_text_atomic
    from chexvision.label_maps.template import template_of

    if out is not None and out.exists():
        raise UsageError(f"--out {out} exists; name another file, or remove it")
    found = template_of(table)
    for guess in found.guesses:
        typer.echo(f"guess: {guess}", err=True)
    if out is None:
        typer.echo(found.text, nl=False)
    else:
        write_text_atomic(out, found.text)
        typer.echo(f"written: {out}", err=True)
