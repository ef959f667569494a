"""An evaluation on a console."""

from __future__ import annotations

from rich.console import Console

from chexvision.artifact.metrics_file import Evaluation
from chexvision.report.evaluation_tables import metrics_table, sections
from chexvision.report.table import print_table


def print_evaluation(console: Console, found: Evaluation) -> None:
    """The metrics of every system, then all that was compared, and notes."""
    for system in found.systems:
        print_table(console, metrics_table(system.metrics, system.name))
    for _, tables in sections(found):
        for table in tables:
            print_table(console, table)
    if found.synthetic:
        console.print("These images are synthetic: the results say nothing about patients.")
    for note in found.notes:
        console.print(f"note: {note}")
