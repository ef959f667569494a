"""The `chexvision` command. One module a noun; heavy imports only inside commands."""

from __future__ import annotations

import os
import sys
from typing import Annotated, NoReturn

import typer

from chexvision import __version__
from chexvision.errors import ChexError
from chexvision.foreign import printable

_LONGEST = 900  # characters of an error

_TRAINING = "'chexvision[train]'"
# Of the packages that prediction with an exported model needs, and of one that it can do without.
_INSTALL = {**dict.fromkeys(("numpy", "cv2", "PIL", "onnxruntime"), "'chexvision[predict]'"), "pyarrow": "pyarrow"}

app = typer.Typer(
    name="chexvision",
    help="Train, publish and explain chest X-ray classifiers on free cloud GPUs.",
    no_args_is_help=True,
    rich_markup_mode=None,  # rendering help with rich takes longer than the rest of `--help`
    pretty_exceptions_enable=False,
)


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"chexvision {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    pass


def main(argv: list[str] | None = None) -> NoReturn:
    """Run the command line; what goes wrong is one line on stderr and an exit code, never a traceback.

    Args:
        argv: the words after the program's name; `sys.argv` where left out.
    """
    from chexvision.cli import register

    if not app.registered_commands:  # not again where a program calls this more than once
        register.commands(app)
    try:
        app(args=argv)
    except ChexError as error:
        _fail(str(error), error.exit_code)
    except ModuleNotFoundError as error:
        if error.name is None or error.name.startswith("chexvision"):
            raise
        package = error.name.split(".")[0]
        _fail(f"this command needs {package}; install it with: pip install {_INSTALL.get(package, _TRAINING)}", 1)
    except BrokenPipeError:
        # The reader of our output went away (`| head`); say nothing, also not at interpreter exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(141)
    except OSError as error:
        where = f" ({error.filename})" if error.filename else ""
        _fail(f"{error.strerror or error}{where}", 1)
    sys.exit(0)


def _fail(message: str, exit_code: int) -> NoReturn:
    print(f"error: {one_line(message)}", file=sys.stderr)
    sys.exit(exit_code)


def one_line(message: str) -> str:
    """An error as it is shown: it may quote a file that holds escape sequences, or a megabyte without a space."""
    text = printable(" ".join(message.split()))
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 200]} … {text[-190:]}"
