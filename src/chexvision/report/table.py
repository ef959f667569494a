"""A table of measurements: one model that consoles, HTML reports and Markdown cards render."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

from chexvision.metrics.records import Estimate
from chexvision.report.wording import number
from chexvision.templating import escape_markdown

if TYPE_CHECKING:
    from markupsafe import Markup
    from rich.console import Console

_LONGEST_HEAD = 24  # characters; a column with a longer head, such as a file name, gives way on a console


@dataclass(frozen=True, slots=True)
class Cell:
    """A value, or why there is none.

    Args:
        value: a measurement, a count (int) or text; None where there is none.
        digits: decimal places of a measurement.
        signed: whether positive values get a plus sign.
        missing: why there is no value, if there is a reason to name.
    """

    value: Estimate | float | str | None = None
    digits: int = 3
    signed: bool = False
    missing: str | None = None

    def text(self, *, interval: bool = True) -> str:
        """What it shows, with or without its interval."""
        if isinstance(self.value, str):
            return self.value
        return number(self.value, digits=self.digits, signed=self.signed, missing=self.missing, interval=interval)


@dataclass(frozen=True, slots=True)
class Column:
    """What the cells of a column are, and how much of them is shown.

    Args:
        head: its name.
        short: a shorter name for consoles, which have room for 80 characters.
        intervals: whether to show intervals.
        console: whether consoles show intervals as well, values alone, or nothing.
        prose: whether it holds sentences; they wrap, and consoles show them below the row.
        wraps: whether its texts wrap on a console, instead of those of the first column.
        bar_from: HTML adds a bar of value and interval on a scale from here to 1.
    """

    head: str
    short: str | None = None
    intervals: bool = True
    console: Literal["same", "values", "nothing"] = "same"
    prose: bool = False
    wraps: bool = False
    bar_from: float | None = None


@dataclass(frozen=True, slots=True)
class Row:
    """The cells of a row, one per column; emphasis marks means over other rows."""

    cells: tuple[Cell, ...]
    emphasis: bool = False


@dataclass(frozen=True, slots=True)
class Table:
    """A title, rows of cells under named columns, and sentences that belong to them."""

    title: str
    columns: tuple[Column, ...]
    rows: tuple[Row, ...]
    notes: tuple[str, ...] = ()

    def texts(self, row: Row) -> list[str]:
        """What the cells of a row show where there is room."""
        return [cell.text(interval=column.intervals) for column, cell in zip(self.columns, row.cells, strict=True)]

    def narrowed(self, heads: Sequence[str], plain: Sequence[str] = ()) -> Table:
        """The first column and those of `heads`, without notes; those of `plain` without intervals."""
        chosen = [i for i, column in enumerate(self.columns) if not i or column.head in heads]
        columns = (
            replace(self.columns[i], intervals=self.columns[i].intervals and self.columns[i].head not in plain)
            for i in chosen
        )
        rows = (replace(one, cells=tuple(one.cells[i] for i in chosen)) for one in self.rows)
        return Table(self.title, tuple(columns), tuple(rows))


def row(*cells: Cell | Estimate | float | str | None, emphasis: bool = False) -> Row:
    """A row of cells, or of values that need no options."""
    return Row(tuple(cell if isinstance(cell, Cell) else Cell(cell) for cell in cells), emphasis)


def print_table(console: Console, table: Table) -> None:
    """Print a table without frames, unless consoles show nothing of it. Long names wrap, numbers do not."""
    from rich.table import Table as RichTable

    shown = [(i, of) for i, of in enumerate(table.columns) if of.console != "nothing" and not of.prose]
    if len(table.columns) > 1 and all(of.console == "nothing" for of in table.columns[1:]):
        return
    grid = RichTable(title=table.title, title_justify="left", title_style="bold", box=None, padding=(0, 1, 0, 0))
    first_wraps = not any(column.wraps for column in table.columns)
    for i, column in shown:
        head = column.head if column.short is None else column.short
        wraps = (first_wraps and not i) or column.wraps or len(head) > _LONGEST_HEAD
        grid.add_column(head, justify="right" if i else "left", no_wrap=not wraps, overflow="fold")
    for one in table.rows:
        cells = [one.cells[i].text(interval=column.intervals and column.console == "same") for i, column in shown]
        grid.add_row(*cells, style="bold" if one.emphasis else None)
    if any(column.prose for column in table.columns):
        _print_list(console, table)
    else:
        console.print(grid)
    for note in table.notes:
        console.print(note)


def _print_list(console: Console, table: Table) -> None:
    """Sentences do not fit into columns: they are printed below the other cells of their row."""
    from rich.padding import Padding

    console.print(table.title, style="bold")
    for one in table.rows:
        cells = [(column, text) for column, text in zip(table.columns, table.texts(one), strict=True) if text]
        console.print("  " + "  ".join(text for column, text in cells if not column.prose))
        prose = [f"{column.head}: {text}" for column, text in cells if column.prose]
        if prose:
            console.print(Padding("; ".join(prose), (0, 0, 0, 6)))


def markdown_table(table: Table) -> Markup:
    """The rows of a table in Markdown, without title and notes; nothing in its cells is interpreted."""
    from markupsafe import Markup

    def lines() -> Iterator[Sequence[str]]:
        yield [escape_markdown(column.head) for column in table.columns]
        yield ["---:" if i and not column.prose else "---" for i, column in enumerate(table.columns)]
        for one in table.rows:
            texts = [escape_markdown(text) for text in table.texts(one)]
            yield [f"**{text}**" if one.emphasis and text else text for text in texts]

    return Markup("\n").join(Markup(f"| {' | '.join(line)} |") for line in lines())
