"""The console that tables and lines are printed to."""

from __future__ import annotations

from typing import Any

from rich.console import Console
from rich.text import Text

from chexvision.foreign import printable


class LiteralConsole(Console):
    """A rich console that takes every string as it is.

    Finding names, file names and notes come from other people's models, datasets and folders: markup, emoji codes and
    terminal escape sequences in them are shown, never interpreted. Styles are given separately (``style=``).

    Args:
        options: of `rich.console.Console`.
    """

    def __init__(self, **options: Any) -> None:
        super().__init__(markup=False, emoji=False, **options)

    def render_str(self, text: str, **options: Any) -> Text:
        """Every string, also of a table's cells and titles, becomes text here."""
        lines = [printable(line) for line in text.split("\n")]
        return super().render_str("\n".join(lines), **options)
