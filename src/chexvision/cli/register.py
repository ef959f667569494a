"""Which module holds which command. Each is imported here and must itself import nothing heavy."""

from __future__ import annotations

import typer

from chexvision.cli import dispatch, models, shards, train


def commands(app: typer.Typer) -> None:
    """Hang every command under `app`."""
    app.command("dispatch")(dispatch.dispatch)
    app.command("train")(train.train)
    app.command("pull")(models.pull)
    app.command("predict")(models.predict)
    app.add_typer(shards.app, name="shards")
