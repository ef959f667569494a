"""Which module holds which command. Each is imported here and must itself import nothing heavy."""

from __future__ import annotations

import typer

from chexvision.cli import (
    bench,
    credentials,
    dispatch,
    doctor,
    evaluate,
    explain,
    models,
    runs,
    sweep,
    train,
)
from chexvision.cli.data import label_templates, shards
from chexvision.cli.many_runs import run_tables
from chexvision.cli.published import export, pages, predict
from chexvision.cli.zoo import commands as zoo


def commands(app: typer.Typer) -> None:
    """Hang every command under `app`."""
    app.add_typer(dispatch.app, name="dispatch")
    app.command("sweep", cls=sweep.SweepCommand)(sweep.sweep)
    app.command("doctor")(doctor.doctor)
    app.command("train")(train.train)
    app.add_typer(zoo.app, name="models")
    app.command("pull")(models.pull)
    app.command("ensemble")(models.ensemble)
    app.command("predict")(predict.predict)
    app.command("export")(export.export)
    app.command("evaluate")(evaluate.evaluate)
    app.command("compare")(evaluate.compare)
    app.command("score")(evaluate.score)
    app.add_typer(shards.app, name="shards")
    app.add_typer(label_templates.app, name="labels")
    app.command("explain")(explain.explain)
    app.command("audit")(explain.audit)
    app.add_typer(pages.app, name="app")
    app.add_typer(bench.app, name="bench")
    runs.app.command("compare")(run_tables.compare)
    runs.app.command("dashboard")(run_tables.dashboard)
    app.add_typer(runs.app, name="runs")
    app.add_typer(credentials.app, name="credentials")
    app.add_typer(train.weights, name="weights")
