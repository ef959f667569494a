"""The report of a study: one table for consoles, Markdown and HTML, and a chart. Needs no numpy."""

from __future__ import annotations

from pathlib import Path
from statistics import mean, stdev

from markupsafe import Markup

from chexvision.errors import UsageError
from chexvision.evaluation.study_results import StudyResults, StudyVariant
from chexvision.files.atomic import write_text_atomic
from chexvision.metrics.records import Estimate
from chexvision.progress import duration
from chexvision.report.study_chart import chart_file, study_chart
from chexvision.report.svg import svg_text
from chexvision.report.table import Cell, Column, Row, Table, markdown_table, row
from chexvision.report.wording import p_text
from chexvision.templating import render

JSON, MARKDOWN, HTML, CHART = "study.json", "study.md", "study.html", "study.svg"


def write_study(results: StudyResults, out: Path) -> None:
    """Write ``study.json``, ``study.md``, ``study.html`` and ``study.svg``, each atomically.

    Raises:
        UsageError: `out` is not a folder.
    """
    refuse_file(out)
    chart, table = study_chart(results), study_table(results)
    write_text_atomic(out / JSON, results.model_dump_json(indent=1) + "\n")
    svg = Markup(svg_text(chart)) if chart is not None else None
    left_out = left_out_table(results) if results.left_out else None
    shown = {"found": results, "table": table, "left_out": left_out}
    page = render("chexvision.report", "study.html", **shown, chart=svg, bar=lambda *_: Markup())
    write_text_atomic(out / HTML, page)
    if chart is not None:
        write_text_atomic(out / CHART, chart_file(chart))
    picture = CHART if chart is not None else None
    rows = markdown_table(table)
    more = markdown_table(left_out) if left_out is not None else None
    text = render("chexvision.report", "study.md", **shown, rows=rows, left_out_rows=more, picture=picture)
    write_text_atomic(out / MARKDOWN, text)


def refuse_file(out: Path) -> None:
    """Raise UsageError where `out` exists and is not a folder."""
    if out.exists() and not out.is_dir():
        raise UsageError(f"--out {out} is not a folder; name another one")


def study_table(results: StudyResults) -> Table:
    """A row for each variant, the base first."""
    several = any(len(of.members) > 1 for of in results.variants)
    columns = [
        Column(""),
        Column("macro AUROC"),
        *([Column("SD over seeds", "SD")] if several else []),
        Column("difference", console="same"),
        Column("p, adjusted", "p"),
        Column("AUROC normal/abnormal", "norm./abn.", intervals=False),
        Column("macro F1", "F1", intervals=False),
        Column("epoch", console="nothing"),
        Column("training", console="nothing"),
        Column("status", console="nothing", prose=False),
    ]
    rows = tuple(_row(of, several=several, base=of.name == results.base) for of in results.variants)
    title = f"Study {results.study}: differences from {results.base}"
    if results.images is not None:
        title += f", {results.images:,} images of {results.patients:,} patients"
    return Table(title, tuple(columns), rows, tuple(_notes(results)))


def left_out_table(results: StudyResults) -> Table:
    """A row for each data set that was left out: its test images under the models with it and without it."""
    several = len({of.seed for of in results.left_out}) > 1
    heads = ("images", "findings", "trained with it", "without it")
    columns = (Column(""), *map(Column, heads), Column("difference", console="same"), Column("p"))
    rows, notes = [], []
    for of in results.left_out:
        name = f"{of.variant}, seed {of.seed}" if several else of.variant
        found = of.macro_auroc
        rows.append(
            row(
                name,
                of.images,
                of.findings,
                found.first if found is not None else None,
                found.second if found is not None else None,
                Cell(found.difference if found is not None else None, 4, signed=True),
                p_text(found.p_patients if found is not None else None),
            )
        )
        why = of.message or (found.too_few if found is not None else None)
        notes += [f"{name}: {why}"] if why else []
    notes.append(
        "Macro AUROC on the test images of the data set, of which neither model has seen a patient. Differences are "
        "paired; p-values are DeLong's with patients as clusters."
    )
    return Table("Data sets left out", columns, tuple(rows), tuple(notes))


def _row(of: StudyVariant, *, several: bool, base: bool) -> Row:
    found = of.difference
    seeds = of.seed_values
    spread: list[Cell] = [Cell(stdev(seeds) if len(seeds) > 1 else None, 4)] if several else []
    epochs = [member.epoch for member in of.members if member.epoch is not None]
    seconds = [member.train_seconds for member in of.members if member.train_seconds is not None]
    return row(
        of.name,
        Cell(of.macro_auroc, missing=found.too_few if found is not None else None),
        *spread,
        "base" if base else Cell(found.difference if found is not None else None, 4, signed=True),
        "" if base else p_text(found.p_patients_holm if found is not None else None),
        Cell(_mean([member.binary_auroc for member in of.members])),
        Cell(_mean([member.macro_f1 for member in of.members])),
        ", ".join(map(str, epochs)),
        duration(mean(seconds)) if seconds else "",
        _status(of),
        emphasis=base,
    )


def _mean(values: list[Estimate]) -> float | None:
    known = [of.value for of in values if of.value is not None]
    return mean(known) if known else None


def _status(of: StudyVariant) -> str:
    counts: dict[str, int] = {}
    for member in of.members:
        counts[member.status] = counts.get(member.status, 0) + 1
    return ", ".join(status if len(of.members) == 1 else f"{n} {status}" for status, n in counts.items())


def _notes(results: StudyResults) -> list[str]:
    """What to know of the table, then what is missing in it."""
    notes = []
    if results.interval is not None:
        how, tests = results.interval, sum(of.difference is not None for of in results.variants)
        adjusted = f", adjusted for {tests} tests by Holm's method" if tests > 1 else ""
        notes.append(
            f"Differences and their {how.level:.0%} intervals: paired, {how.method}, {how.resamples:,} resamples. "
            f"p-values: DeLong's test with patients as clusters{adjusted}. They are about these trained models; "
            "another seed would train others."
        )
    for variant in results.variants:
        if variant.untested and not any(member.message for member in variant.members):
            notes.append(f"{variant.name}: no paired test: {variant.untested}.")
        for member in variant.members:
            if member.message:
                called = variant.name if len(variant.members) == 1 else f"{variant.name}, seed {member.seed}"
                notes.append(f"{called}: {member.status}: {member.message}")
    return [*notes, *results.notes]
