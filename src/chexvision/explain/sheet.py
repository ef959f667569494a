"""The audit for people: a table in the terminal, and a contact sheet of the best and the worst maps."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from PIL import Image
from rich.console import Console
from rich.table import Table

from chexvision.explain.audit import Audit, Case, Figure, FindingAudit
from chexvision.explain.overlay import render_sheet, render_tile, write_png
from chexvision.report.wording import figure

_TILES = 8
_TITLE = "Maps beside the boxes"


def print_audit(console: Console, audit: Audit) -> None:
    """A row a finding with each figure beside what chance and the centre would get; intervals of the whole below."""
    table = Table(box=None, padding=(0, 1, 0, 0), title=_TITLE, title_justify="left", title_style="bold")
    for i, head in enumerate(
        ("", "maps", "points", "any", "ctr", "IoU", "any", "ctr", "energy", "any", "ctr", "out")
    ):
        table.add_column(head, justify="right" if i else "left", no_wrap=True)
    table.add_row("all", *_cells(audit.overall), style="bold", end_section=True)
    for name, of in audit.findings.items():
        table.add_row(name, *_cells(of))
    console.print(table)
    how, overall = audit.conditions, audit.overall
    console.print(
        "points: strongest place in the box; IoU: above Otsu's threshold; energy: share in the box; any: the same "
        "maps at any place; ctr: a map of the centre; out: share outside the chest"
    )
    console.print(
        f"all: points {figure(overall.pointing)}, "
        f"IoU {figure(overall.iou)}, energy {figure(overall.energy)}, "
        f"outside {figure(overall.outside)}, a map without knowledge "
        f"{figure(overall.outside.random)}; {how.method}, {how.interval.level:.0%} intervals by {how.interval.method}"
    )
    if overall.empty:
        console.print(f"{overall.empty} maps are empty, nothing raises their logit: they count as misses")


def write_sheet(path: Path, cases: Sequence[Case], method: str) -> None:
    """A PNG of the cases with the highest and with the lowest IoU; ties go by energy, then by name."""
    ranked = sorted(
        cases, key=lambda case: (-case.measured.iou, -case.measured.energy, case.subject.name, case.finding)
    )
    count = min(_TILES, (len(ranked) + 1) // 2)
    rows = [("Best by IoU with the boxes", ranked[:count])]
    if len(ranked) > count:
        rows.append(("Worst", ranked[::-1][:count]))
    caption = f"{method} of {len(cases)} boxed findings; white: the boxes · research only"
    write_png(path, render_sheet([(title, [_tile(case) for case in of]) for title, of in rows], caption))


def _tile(case: Case) -> Image.Image:
    measured = case.measured
    lines = (
        f"{case.finding}  {case.probability:.2f}",
        f"IoU {measured.iou:.2f} · energy {measured.energy:.2f} · {'hit' if measured.pointing else 'miss'}",
        case.subject.name,
    )
    return render_tile(case.subject.pixels, case.heat, case.subject.boxes[case.finding], lines)


def _cells(of: FindingAudit) -> list[str]:
    figures = [figure(value, digits=2) for one in (of.pointing, of.iou, of.energy) for value in _beside(one)]
    return [str(of.cases), *figures, figure(of.outside.value, digits=2)]


def _beside(of: Figure) -> tuple[float | None, float | None, float | None]:
    return of.value, of.random, of.centre
