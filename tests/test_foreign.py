"""Untrusted text: it cannot control the terminal, and file names made of it stay in their folder."""

from __future__ import annotations

import io
from pathlib import PurePosixPath, PureWindowsPath

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.table import Table
from rich.text import Text

from chexvision.console import LiteralConsole
from chexvision.foreign import printable, safe_name
from chexvision.progress import Progress

ANY_TEXT = st.text(st.characters(exclude_categories=()), max_size=400)


@given(ANY_TEXT)
def test_printable_text_is_one_printable_line(text: str) -> None:
    assert printable(text).isprintable()
    printable(text).encode()


@given(ANY_TEXT)
def test_a_safe_name_is_one_path_component_on_every_system(text: str) -> None:
    name = safe_name(text)
    assert name and len(name.encode()) < 200
    assert not name.startswith(".")
    assert PurePosixPath(name).parts == (name,)
    assert PureWindowsPath(name).parts == (name,)


@given(ANY_TEXT, ANY_TEXT)
def test_different_texts_get_different_names(first: str, second: str) -> None:
    assert (safe_name(first) == safe_name(second)) == (first == second)


@pytest.mark.parametrize("text", ["Effusion", "00000001_000-Pleural_Thickening", "João, chest (2)"])
def test_a_plain_name_is_unchanged(text: str) -> None:
    assert safe_name(text) == text == printable(text)


def test_the_console_shows_markup_emoji_and_escapes_as_they_are() -> None:
    file = io.StringIO()
    console = LiteralConsole(file=file, width=60, force_terminal=True)
    table = Table(title="[red]title[/] :smile:")
    table.add_column("[/head]")
    table.add_row("\x1b]0;owned\x07[bold]cell")
    console.print(table)
    console.print("[link=http://x]note[/]\nsecond line")
    plain = Text.from_ansi(file.getvalue()).plain
    for text in ("[red]title[/] :smile:", "[/head]", r"\x1b]0;owned\x07[bold]cell", "[link=http://x]note[/]\nsecond"):
        assert text in plain
    assert "\x1b]" not in file.getvalue()


def test_a_progress_bar_shows_its_label_as_it_is() -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    stream = Terminal()
    with Progress("predicting with [red]x[/] \x1b[2J", 2, "images", stream=stream) as progress:
        progress.advance(2)
    assert "[red]x[/] \\x1b[2J" in Text.from_ansi(stream.getvalue()).plain
