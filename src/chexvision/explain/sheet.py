"""The results of an audit: a table, and a contact sheet of the best and the worst maps."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from PIL import Image

from chexvision.explain.audit import Audit, Case, FindingAudit
from chexvision.explain.overlay import render_sheet, render_tile, write_png
from chexvision.report.table import Cell, Column, Table, row
from chexvision.report.wording import number

_TILES = 8  # of the best and of the worst
_COLUMNS = 4  # a sheet is about as wide as a page
_TITLE = "Maps compared with the boxes"


def audit_table(audit: Audit) -> Table:
    """A row per finding with each measure, and the value of a random baseline."""
    heads = ("", "maps", "points", "any", "ctr", "IoU", "any", "ctr", "energy", "any", "ctr", "out")
    rows = [row("all", *_cells(audit.overall), emphasis=True)]
    rows += [row(name, *_cells(of)) for name, of in audit.findings.items()]
    how, overall = audit.conditions, audit.overall
    notes = [
        "points: strongest position in the box; IoU: above Otsu's threshold; energy: share in the box; any: the same "
        "maps at any position; ctr: a map of the center; out: share outside the chest",
        f"all: points {number(overall.pointing)}, IoU {number(overall.iou)}, energy {number(overall.energy)}, "
        f"outside {number(overall.outside)}, random baseline {number(overall.outside.random)}; {how.method}, "
        f"{how.interval.level:.0%} intervals by {how.interval.method}",
    ]
    if overall.empty:
        notes.append(f"{overall.empty} maps are empty, nothing raises their logit: they count as misses")
    return Table(_TITLE, tuple(Column(head, intervals=False) for head in heads), tuple(rows), tuple(notes))


def write_sheet(path: Path, cases: Sequence[Case], method: str) -> None:
    """A PNG of the cases with the highest and with the lowest IoU; ties go by energy, then by name."""
    ranked = sorted(
        cases, key=lambda case: (-case.measured.iou, -case.measured.energy, case.subject.name, case.finding)
    )
    count = min(_TILES, (len(ranked) + 1) // 2)
    groups = [("Best by IoU with the boxes", ranked[:count])]
    if len(ranked) > count:
        groups.append(("Worst", ranked[::-1][:count]))
    rows = [
        (title if first == 0 else "", [_tile(case) for case in of[first : first + _COLUMNS]])
        for title, of in groups
        for first in range(0, len(of), _COLUMNS)
    ]
    caption = (
        f"{method} of {len(cases)} boxed findings, each colored from 0 to its own highest value, which is given in "
        "logit units; white: the boxes · research only"
    )
    write_png(path, render_sheet(rows, caption))


def _tile(case: Case) -> Image.Image:
    measured, highest = case.measured, float(case.heat.max())
    lines = (
        f"{case.finding}  {case.probability:.2f}",
        f"IoU {measured.iou:.2f} · energy {measured.energy:.2f} · {'hit' if measured.pointing else 'miss'}",
        f"highest {highest:.2g}" if highest > 0 else "empty",
        case.subject.name,
    )
    return render_tile(case.subject.pixels[0], case.heat, highest, case.subject.boxes[case.finding], lines)


def _cells(of: FindingAudit) -> list[Cell]:
    values = [value for one in (of.pointing, of.iou, of.energy) for value in (one, one.random, one.centre)]
    return [Cell(of.cases), *(Cell(value, 2) for value in (*values, of.outside))]
