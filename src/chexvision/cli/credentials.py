"""`chexvision credentials`: giving Kaggle's sessions a Hub token, and taking it back."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from chexvision.errors import ChexError, UsageError

if TYPE_CHECKING:
    from chexvision.hub.account import HubToken

app = typer.Typer(
    help="The Hub token that sessions on Kaggle publish with.", no_args_is_help=True, rich_markup_mode=None
)

Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
_STDIN = "-"
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")]


@app.command("sync")
def sync(
    dataset: Annotated[
        str | None, typer.Option(metavar="OWNER/SLUG", help="[default: <you>/chexvision-hub-token]")
    ] = None,
    token_file: Annotated[
        str | None,
        typer.Option(metavar="FILE", help="Holds the token for sessions; - reads it from standard input."),
    ] = None,
    yes: Yes = False,
    as_json: Json = False,
) -> None:
    """Put a Hub token into a private dataset on Kaggle, which dispatches then attach.

    It is this machine's own, unless that is of a login with the browser or may not write: then, or with
    --token-file, it is one that is made for sessions.
    """
    from chexvision_dispatch.targets import credentials

    if token_file == _STDIN and not yes:
        raise UsageError("--token-file - reads standard input, so no question can be answered: add --yes")
    token = _given(token_file) if token_file is not None else _own_or_asked_for()
    _confirm(f"Send the Hub token {token} to a private dataset of yours on Kaggle?", yes)
    ref, made = credentials.sync(token, dataset)
    if as_json:
        print(json.dumps({"dataset": ref, "made": made}, indent=2))
        return
    typer.echo(f"{'created' if made else 'updated'} the private dataset {ref}; it is ready in about a minute")
    typer.echo("dispatches attach it by themselves")
    if token.role != "fineGrained":
        from chexvision.hub.account import NEW_TOKEN_PAGE

        typer.echo(f"safer is a fine-grained token for the target repository alone, --token-file: {NEW_TOKEN_PAGE}")


@app.command("status")
def status(as_json: Json = False) -> None:
    """Show where a working token comes from, never what it is."""
    from chexvision_dispatch.targets import credentials

    sources = credentials.status()
    if as_json:
        print(json.dumps([asdict(source) for source in sources], indent=2))
        return
    marks = {True: "yes", False: "no", None: "?"}
    for source in sources:
        typer.echo(f"{marks[source.works]:4}{source.name:27}{source.note}")


@app.command("forget")
def forget(yes: Yes = False, as_json: Json = False) -> None:
    """Delete the dataset that `sync` created."""
    from chexvision_dispatch.targets import credentials

    _confirm("Delete the private dataset with the Hub token on Kaggle?", yes)
    ref = credentials.forget()
    if as_json:
        print(json.dumps({"deleted": ref}, indent=2))
    elif ref is None:
        typer.echo("there was none")
    else:
        typer.echo(f"deleted {ref}; to be safe revoke the token, too: https://huggingface.co/settings/tokens")


def _given(token_file: str) -> HubToken:
    from chexvision_dispatch.targets import credentials

    if token_file == _STDIN:
        return credentials.session_token(sys.stdin.read(), "from standard input")
    try:
        text = Path(token_file).expanduser().read_text(encoding="utf-8", errors="replace")
    except OSError as error:
        raise UsageError(f"--token-file {token_file}: {error.strerror}; name a file that holds the token") from None
    return credentials.session_token(text, f"from the file {token_file}")


def _own_or_asked_for() -> HubToken:
    """This machine's token, or where that will not do for sessions, one from a hidden prompt."""
    from chexvision.hub.account import NEW_TOKEN_PAGE, machine_token
    from chexvision_dispatch.targets import credentials

    own = machine_token()
    if own is not None and not own.unfit:
        return own
    why = f"this machine's Hub token {own.unfit}" if own is not None else "there is no Hub token on this machine"
    needed = f"sessions need a token of their own, fine-grained, with write access to the target: {NEW_TOKEN_PAGE}"
    if not sys.stdin.isatty():
        raise ChexError(f"{why}; {needed}; give it with --token-file FILE, or - for standard input")
    typer.echo(f"{why};\n{needed}", err=True)
    return credentials.session_token(typer.prompt("token", hide_input=True, err=True), "that was typed")


def _confirm(question: str, yes: bool) -> None:
    if yes:
        return
    try:
        agreed = typer.confirm(question)
    except typer.Abort:
        raise UsageError("no answer; add --yes to continue without being asked") from None
    if not agreed:
        raise UsageError("nothing was done")
