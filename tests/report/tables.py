"""A table as the HTML report shows it."""

from __future__ import annotations

from chexvision.report.html import bar
from chexvision.report.table import Table
from chexvision.templating import render


def table_html(table: Table) -> str:
    """The element of one table."""
    return render("chexvision.report", "table.html", table=table, bar=bar)
