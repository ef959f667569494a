"""`chexvision credentials`: giving Kaggle's sessions a Hub token, and taking it back."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Annotated

import typer

from chexvision.errors import UsageError

app = typer.Typer(
    help="The Hub token that sessions on Kaggle publish with.", no_args_is_help=True, rich_markup_mode=None
)

Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")]


@app.command("sync")
def sync(
    dataset: Annotated[
        str | None, typer.Option(metavar="OWNER/SLUG", help="[default: <you>/chexvision-hub-token]")
    ] = None,
    yes: Yes = False,
    as_json: Json = False,
) -> None:
    """Put this machine's Hub token into a private dataset on Kaggle, which dispatches then attach."""
    from chexvision_dispatch import credentials

    _confirm("Send this machine's Hub token to a private dataset of yours on Kaggle?", yes)
    ref, made = credentials.sync(dataset)
    if as_json:
        print(json.dumps({"dataset": ref, "made": made}, indent=2))
        return
    typer.echo(f"{'made' if made else 'updated'} the private dataset {ref}; it is ready in about a minute")
    typer.echo("dispatches attach it by themselves; a fine-grained token for the target repository is safest")


@app.command("status")
def status(as_json: Json = False) -> None:
    """Show which places have a working token, never what it is."""
    from chexvision_dispatch import credentials

    places = credentials.status()
    if as_json:
        print(json.dumps([asdict(place) for place in places], indent=2))
        return
    marks = {True: "yes", False: "no", None: "?"}
    for place in places:
        typer.echo(f"{marks[place.works]:4}{place.name:27}{place.note}")


@app.command("forget")
def forget(yes: Yes = False, as_json: Json = False) -> None:
    """Delete the dataset that `sync` made."""
    from chexvision_dispatch import credentials

    _confirm("Delete the private dataset with the Hub token on Kaggle?", yes)
    ref = credentials.forget()
    if as_json:
        print(json.dumps({"deleted": ref}, indent=2))
    elif ref is None:
        typer.echo("there was none")
    else:
        typer.echo(f"deleted {ref}; to be safe revoke the token, too: https://huggingface.co/settings/tokens")


def _confirm(question: str, yes: bool) -> None:
    if yes:
        return
    try:
        agreed = typer.confirm(question)
    except typer.Abort:
        raise UsageError("nobody answered; add --yes to go on without being asked") from None
    if not agreed:
        raise UsageError("nothing was done")
