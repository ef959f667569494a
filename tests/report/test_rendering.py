"""Three renderers of one table: the same values, and untrusted text is not interpreted."""

from __future__ import annotations

import io
import re
from dataclasses import replace
from html.parser import HTMLParser

import pytest

from chexvision.console import LiteralConsole
from chexvision.metrics.estimate import Estimate
from chexvision.metrics.measure import measure
from chexvision.report.evaluation_tables import metrics_table
from chexvision.report.html import table_html
from chexvision.report.table import Cell, Column, Table, markdown_table, print_table, row
from chexvision.templating import code, escape_markdown
from tests.evaluation.conftest import METHOD, random_predictions

HOSTILE = "<img src=x onerror=alert(1)> | **b** [a](javascript:x) `c` _d_ \x1b[2J\n# e {{ 7 * 7 }}"


class Cells(HTMLParser):
    """The rows of a page's tables, and all tags in it."""

    def __init__(self) -> None:
        super().__init__()
        self.rows: list[list[str]] = []
        self.tags: set[str] = set()
        self.within = False

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        if tag == "tr":
            self.rows.append([])
        elif tag in ("td", "th"):
            self.rows[-1].append("")
            self.within = True

    def handle_endtag(self, tag: str) -> None:
        self.within = self.within and tag not in ("td", "th")

    def handle_data(self, data: str) -> None:
        if self.within:
            self.rows[-1][-1] += data


def in_html(table: Table) -> Cells:
    cells = Cells()
    cells.feed(table_html(table))
    return cells


def in_markdown(table: Table) -> list[list[str]]:
    lines = [re.split(r"(?<!\\)\|", line)[1:-1] for line in markdown_table(table).splitlines()]
    return [[cell.strip() for cell in line] for line in lines]


def on_console(table: Table, width: int = 250) -> str:
    file = io.StringIO()
    print_table(LiteralConsole(file=file, width=width), table)
    return file.getvalue()


def test_all_renderers_show_the_same_values() -> None:
    table = metrics_table(measure(random_predictions(), method=METHOD), "model")
    columns = tuple(replace(column, bar_from=None) for column in table.columns)
    table = replace(table, columns=columns, notes=())
    html, markdown, console = in_html(table).rows[1:], in_markdown(table)[2:], on_console(table).splitlines()[-16:]
    assert len(html) == len(markdown) == len(table.rows) == 16
    for one, of_html, of_markdown, of_console in zip(table.rows, html, markdown, console, strict=True):
        texts = table.texts(one)
        assert of_html == texts
        assert [cell.strip("*") for cell in of_markdown] == texts
        for column, cell in zip(table.columns, one.cells, strict=True):
            if column.console != "nothing":
                assert cell.text(interval=column.intervals and column.console == "same") in of_console


def test_missing_values_show_a_reason() -> None:
    table = Table("t", (Column(""), Column("AUROC")), (row("Mass", Cell(Estimate(), missing="3 patients")),))
    assert "title='3 patients'>too few</td>" in table_html(table)
    assert in_markdown(table)[2] == ["Mass", "too few"]
    assert "too few" in on_console(table)


@pytest.mark.parametrize("prose", [False, True])
def test_untrusted_text_is_not_interpreted(prose: bool) -> None:
    table = Table(HOSTILE, (Column(""), Column(HOSTILE, prose=prose)), (row(HOSTILE, HOSTILE),), (HOSTILE,))
    html = in_html(table)
    assert html.tags == {"div", "table", "caption", "thead", "tr", "th", "tbody", "td", "p"}
    assert html.rows[1] == [HOSTILE, HOSTILE]
    lines = markdown_table(table).splitlines()
    assert len(lines) == 3
    assert [len(line) for line in in_markdown(table)] == [2, 2, 2]
    assert not re.search(r"(?<!\\)[<>`\[\]*]", lines[2])
    console = on_console(table)
    assert "\x1b" not in console
    assert "<img src=x onerror=alert(1)> | **b** [a](javascript:x)" in console


@pytest.mark.parametrize(
    "text",
    ["f1 on validation", "Pleural_Thickening", "DenseNet-121, 5 % (n = 3)", "https://arxiv.org/abs/1705.02315"],
)
def test_ordinary_text_is_unchanged_in_markdown(text: str) -> None:
    assert escape_markdown(text) == text


@pytest.mark.parametrize(
    ("text", "expected"), [("a_b", "`a_b`"), ("`", "`` ` ``"), ("a``b", "```a``b```"), ("a\nb", r"`a\nb`")]
)
def test_code_spans_are_closed_correctly(text: str, expected: str) -> None:
    assert code(text) == expected


def test_long_names_wrap_on_a_console_without_truncation() -> None:
    names = "r" * 100, "c" * 100
    shown = on_console(Table("", (Column(""), Column(names[1])), (row(names[0], 0.5),)), width=80)
    assert "…" not in shown and "0.500" in shown
    assert (shown.count("r"), shown.count("c")) == (100, 100)
