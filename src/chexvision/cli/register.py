"""Which module holds which command. Each is imported here and must itself import nothing heavy."""

from __future__ import annotations

import typer


def commands(app: typer.Typer) -> None:
    """Hang every command under `app`."""
