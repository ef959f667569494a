"""`chexvision app`: a page that shows what published models find in an image."""

from __future__ import annotations

from typing import Annotated

import typer
from typer.core import TyperGroup


class _ServesByDefault(TyperGroup):
    """`chexvision app MODEL` is `chexvision app serve MODEL`."""

    default_command = "serve"

    def parse_args(self, ctx: typer.Context, args: list[str]) -> list[str]:  # type: ignore[override]
        default = args and args[0] not in self.commands and args[0] != "--help"
        return super().parse_args(ctx, [self.default_command, *args] if default else args)


app = typer.Typer(
    cls=_ServesByDefault,
    help="Show a page for published models: chexvision app MODEL... serves it on this machine.",
    no_args_is_help=True,
    rich_markup_mode=None,
)


@app.command()
def serve(
    models: Annotated[
        list[str], typer.Argument(metavar="MODEL...", help="Folders, or USER/REPO[@REV] on the Hub, exported before.")
    ],
    port: Annotated[int, typer.Option(help="To listen on; 0 for any that is free.")] = 7860,
    host: Annotated[str, typer.Option(help="To listen on; other machines reach the page on 0.0.0.0.")] = "127.0.0.1",
    static: Annotated[
        bool, typer.Option("--static", help="The page that computes in the browser and sends images nowhere.")
    ] = False,
    no_browser: Annotated[bool, typer.Option("--no-browser", help="Do not open the page.")] = False,
) -> None:
    """Serve a page on this machine until Ctrl-C. Research only."""
    from chexvision.app.page_files import find_model, page_files
    from chexvision.app.page_server import PageServer, open_browser
    from chexvision.app.page_server import serve as serve_page

    if not static:
        _serve_gradio(models, host, port, no_browser=no_browser)
        return
    server = PageServer(page_files([find_model(model) for model in models]), host, port)
    typer.echo(f"{server.url} shows {', '.join(models)}; Ctrl-C ends it")
    if not no_browser:
        open_browser(server.url)
    serve_page(server)


def _serve_gradio(models: list[str], host: str, port: int, *, no_browser: bool) -> None:
    from importlib.util import find_spec

    from chexvision.errors import ChexError, UsageError

    if len(models) > 1:
        raise UsageError(f"{len(models)} models: the Gradio app has one; --static shows several side by side")
    if find_spec("gradio") is None:
        raise ChexError(
            "the Gradio app needs gradio; install it with: pip install 'chexvision[space]', or add --static for the "
            "page that computes in the browser"
        )
    from chexvision.app.gradio_server import launch, load_app_model
    from chexvision.app.page_server import open_browser

    def started(url: str) -> None:
        typer.echo(f"{url} shows {models[0]}; Ctrl-C ends it")
        if not no_browser:
            open_browser(url)

    launch(*load_app_model(models[0]), host, port, started)
