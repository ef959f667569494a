"""`chexvision models list` and `models show`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from chexvision.cli.names import Preset, known_recipes

if TYPE_CHECKING:
    from chexvision.cli.zoo.entries import Detail, Summary
    from chexvision.console import LiteralConsole

app = typer.Typer(
    help="The recipes, their networks and published figures.", no_args_is_help=True, rich_markup_mode=None
)

_FORMAT = 1  # of the JSON
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON instead of tables.")]


@app.command("list")
def list_(as_json: AsJson = False) -> None:
    """Every recipe with its network, license of the weights, published figure and estimated hours on two T4s."""
    from dataclasses import asdict

    from chexvision.cli.zoo.entries import summarize
    from chexvision.recipes import recipe_names

    rows = [summarize(name) for name in recipe_names()]
    if as_json:
        _print_json({"models": [asdict(one) for one in rows]})
        return
    from chexvision.console import LiteralConsole
    from chexvision.report.table import Column, Table, print_table, row

    console = LiteralConsole()
    heads = ("recipe", "network", "M param.", "MB", "input", "T4 h")
    cells = [
        row(
            one.recipe, _short(one.backbone), _number(one.parameters, 1e6), _number(one.megabytes),
            str(one.image_size), f"{one.t4_hours:.1f}",
        )
        for one in rows
    ]  # fmt: skip
    notes = ("T4 h: an estimate for two T4s without early stopping; models show NAME for all about one",)
    print_table(console, Table("Recipes", tuple(map(Column, heads)), tuple(cells), notes))
    console.print()
    _print_published(console, rows)
    for one in rows:
        if one.non_commercial:
            console.print(f"{one.recipe}: the weights forbid commercial use ({one.license})", style="bold")


def _print_published(console: LiteralConsole, rows: list[Summary]) -> None:
    from rich.table import Table as Grid

    heads = ("recipe", "license of the weights", "published figure and its images")
    grid = Grid(*heads, title="Published", title_justify="left", title_style="bold", box=None, padding=(0, 1, 0, 0))
    for one in rows:
        license_ = f"{one.license}{' (non-commercial)' if one.non_commercial else ''}" if one.license else "–"
        figure = f"{one.reported}, {one.split}" if one.reported else "–"
        grid.add_row(one.recipe, license_, figure, style="bold" if one.non_commercial else None)
    console.print(grid)


@app.command("show")
def show(
    name: Annotated[
        str,
        typer.Argument(metavar="RECIPE", help="By name, or a YAML file.", autocompletion=known_recipes),
    ],
    as_json: AsJson = False,
    preset: Preset = None,
    overrides: Annotated[
        list[str] | None, typer.Option("--set", metavar="A.B=C", help="Change one value; repeatable.")
    ] = None,
    freeze: Annotated[
        str | None,
        typer.Option(metavar="none|partial|all|N", help="What each phase freezes, instead of the recipe's own."),
    ] = None,
) -> None:
    """One recipe: what it reproduces, its network and phases, and the origin of each value."""
    from dataclasses import asdict

    from chexvision.cli.zoo.entries import check_freeze, describe

    detail = describe(name, preset, overrides or [], check_freeze(freeze) if freeze is not None else None)
    if as_json:
        _print_json(asdict(detail))
        return
    from chexvision.console import LiteralConsole

    console = LiteralConsole()
    _print_facts(console, detail)
    _print_phases(console, detail)
    _print_settings(console, detail)


def _print_facts(console: LiteralConsole, detail: Detail) -> None:
    from rich.table import Table as Grid

    one = detail.summary
    size = "" if one.parameters is None else f", {one.parameters / 1e6:.1f} M parameters, {one.megabytes:.0f} MB"
    work = "" if one.gmacs is None else f", {one.gmacs:.1f} GMACs at {one.image_size}²"
    forbids = ", which forbids commercial use" if one.non_commercial else ""
    license_ = f", license {one.license}{forbids}" if one.license else ""
    lines = [
        ("recipe", one.recipe),
        ("reproduces", one.reproduces),
        ("paper", detail.paper),
        ("reported", f"{one.reported}; images: {one.split}" if one.reported else None),
        *(("differs", text) for text in detail.differs),
        ("network", f"{one.backbone}{size}{work}"),
        ("weights", f"{one.weights}{license_}"),
        *(("to set", f"{key}: {how}") for key, how in detail.needs.items()),
        ("T4 hours", f"about {one.t4_hours:.1f} on two ({detail.t4_hours_basis})"),
    ]
    grid = Grid(box=None, show_header=False, padding=(0, 1, 0, 0))
    for what, text in lines:
        if text:
            grid.add_row(what, text, style="bold" if what == "weights" and one.non_commercial else None)
    console.print(grid)


def _print_phases(console: LiteralConsole, detail: Detail) -> None:
    from chexvision.report.table import Column, Table, print_table, row

    rows = tuple(
        row(
            str(number), str(phase.epochs), str(phase.image_size), f"{phase.lr:g}", phase.schedule, str(phase.freeze),
            "" if phase.trainable_parameters is None else f"{phase.trainable_parameters:,}",
        )
        for number, phase in enumerate(detail.phases, 1)
    )  # fmt: skip
    heads = ("phase", "epochs", "input", "lr", "schedule", "freeze", "parameters that learn")
    notes = (
        "parameters that learn: install chexvision[train] to count them"
        if detail.parameters is None
        else f"of {detail.parameters:,} parameters with the heads",
    )
    console.print()
    print_table(console, Table("Phases", tuple(map(Column, heads)), rows, notes))


def _print_settings(console: LiteralConsole, detail: Detail) -> None:
    from rich.table import Table as Grid

    grid = Grid(title="Settings", title_justify="left", title_style="bold", box=None, padding=(0, 1, 0, 0))
    for head in ("setting", "value", "from"):
        grid.add_column(head, overflow="fold")
    for key, setting in detail.settings.items():
        value = "null" if setting.value is None else str(setting.value)
        grid.add_row(key, value.lower() if isinstance(setting.value, bool) else value, setting.origin)
    console.print()
    console.print(grid)


def _print_json(content: dict[str, object]) -> None:
    import json

    typer.echo(json.dumps({"format": _FORMAT} | content, indent=2, ensure_ascii=False))


def _short(backbone: str) -> str:
    """The network without the collection that it is from and the tag of its weights."""
    return backbone.removeprefix("timm/").partition(".")[0]


def _number(value: float | None, unit: float = 1) -> str:
    return "" if value is None else f"{value / unit:.1f}" if unit > 1 else f"{value:.0f}"
