"""`chexvision app`: a page that shows what published models find in an image."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

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


@app.command()
def deploy(
    models: Annotated[
        list[str], typer.Argument(metavar="MODEL...", help="Folders, or USER/REPO[@REV] on the Hub, exported before.")
    ],
    space: Annotated[str, typer.Option(metavar="USER/NAME", help="The Space to create or update.")],
    gradio: Annotated[
        bool,
        typer.Option("--gradio/--static", help="The Gradio app, which needs a paid plan, or the free static page."),
    ] = False,
    private: Annotated[
        bool | None,
        typer.Option("--private/--public", help="Who sees a new Space.  [default: public]", show_default=False),
    ] = None,
    dry_run: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Write what would be uploaded into this folder.")
    ] = None,
) -> None:
    """Create or update a Hugging Face Space in one commit, with the models at the commits they have now."""
    from chexvision.app.deploy import deploy as deploy_space
    from chexvision.app.deploy import is_private, write_files
    from chexvision.app.space_files import space_files
    from chexvision.errors import UsageError
    from chexvision.hub.reference import RepoRef, parse_reference

    target = parse_reference(space)
    if not isinstance(target, RepoRef) or target.revision is not None:
        raise UsageError(f"--space {space} is not the name of a Space; write USER/NAME")
    for model in map(parse_reference, models):
        if private is None and dry_run is None and isinstance(model, RepoRef) and is_private(model):
            raise UsageError(
                f"{model.repo_id} is private, and everybody could download it from a public Space: add --private, or "
                "--public if that is meant"
            )
    sdk: Literal["static", "gradio"] = "gradio" if gradio else "static"
    files = space_files(models, sdk, target.repo_id.partition("/")[2])
    if dry_run is not None:
        write_files(files, dry_run)
        typer.echo(f"{dry_run}: {len(files)} files of {target.repo_id}; nothing was uploaded")
        return
    deployed = deploy_space(target.repo_id, files, sdk, private=bool(private))
    if deployed.changed:
        typer.echo(f"{len(files)} files in commit {deployed.commit}")
    else:
        typer.echo(f"nothing has changed since commit {deployed.commit}")
    typer.echo(deployed.address)
