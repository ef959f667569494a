"""A page of many published runs: one HTML file without anything outside of it. Needs no numpy.

What the runs published is other people's content: every text is escaped, and long lists are cut.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from markupsafe import Markup

from chexvision.artifact.metrics_file import Evaluation
from chexvision.artifact.published_run import PublishedRun
from chexvision.backbones import TIMM
from chexvision.errors import UsageError
from chexvision.evaluation.many_runs.measured_on import numbered_sets, synthetic_part
from chexvision.files.atomic import write_text_atomic
from chexvision.foreign import printable
from chexvision.hub.reference import RepoRef, parse_reference
from chexvision.metrics.records import UNDEFINED, Estimate, SplitMetrics
from chexvision.report.many_runs.curves import Series, overlay, swatch
from chexvision.report.svg import svg_text
from chexvision.report.wording import number, output_name
from chexvision.templating import render

PAGE = "index.html"
_MARK = "chexvision runs dashboard"  # by which a page of this module is known
_MOST_FINDINGS = 40  # columns of the table by finding
_MOST_DATASETS = 12
_LONGEST = 200  # characters of a text from a run
_MOST_CURVES = 200


@dataclass(frozen=True, slots=True)
class Shown:
    """A value of a table: its text, what it is sorted by, the share of a cell's color in [0, 1], and its test set."""

    text: str
    key: float | str = ""
    share: float | None = None
    test_set: str = ""


@dataclass(frozen=True, slots=True)
class Row:
    """A run as the page shows it.

    Args:
        number: of the run, from 0, which gives its color.
        name: of the run.
        page: its page on the Hub.
        swatch: a line in its color; empty without a curve.
        cells: of the columns `COLUMNS`, after the name.
        test_set: its letter, and whether its images are synthetic.
        filters: the values of `FILTERS`.
        findings: AUROC by finding.
        datasets: macro AUROC by dataset, of a mixture or of an evaluation.
        problems: why something is missing.
    """

    number: int
    name: str
    page: str | None
    swatch: Markup
    cells: tuple[Shown, ...]
    test_set: str
    filters: tuple[str, ...]
    findings: dict[str, Shown]
    datasets: dict[str, Shown]
    problems: tuple[str, ...]


COLUMNS = (
    "test set", "macro AUROC", "normal/abnormal", "date", "recipe", "backbone", "dataset", "split", "epochs",
    "parameters", "hours",
)  # fmt: skip
MEASURED = ("macro AUROC", "normal/abnormal")
NUMERIC = ("epochs", "macro AUROC", "normal/abnormal", "parameters", "hours")
FILTERS = ("recipe", "backbone", "dataset", "test set")


def write_dashboard(runs: Sequence[PublishedRun], out: Path, title: str) -> Path:
    """Write ``index.html``; equal runs give equal bytes.

    Raises:
        UsageError: the folder has an ``index.html`` of something else, or is not a folder.
    """
    refuse_other_page(out)
    write_text_atomic(out / PAGE, render_dashboard(runs, title))
    return out / PAGE


def space_files(page: Path, title: str) -> dict[str, Path | bytes]:
    """The files of a static Space that shows a page."""
    about = {"title": _short(title), "sdk": "static", "app_file": PAGE, "pinned": False, "tags": ["chexvision"]}
    text = f"---\n{json.dumps(about, indent=1)}\n---\n\nMade by `{_MARK}`.\n"  # JSON is YAML
    return {PAGE: page, "README.md": text.encode()}


def refuse_other_page(out: Path) -> None:
    """Raise UsageError where a page of something else would be overwritten."""
    if out.exists() and not out.is_dir():
        raise UsageError(f"--out {out} is not a folder; name another one")
    page = out / PAGE
    if page.exists() and (
        not page.is_file() or _MARK not in page.read_text(encoding="utf-8", errors="replace")[:2000]
    ):
        raise UsageError(f"{page} is another page; name another folder for --out")


def render_dashboard(runs: Sequence[PublishedRun], title: str) -> str:
    """The page: the newest run first; those of which nothing is known are at the end."""
    ordered = sorted(runs, key=lambda run: run.name)
    ordered.sort(key=lambda run: run.finished_at, reverse=True)
    numbers = numbered_sets(ordered)
    rows = [_row(i, run, of) for i, (run, of) in enumerate(zip(ordered, numbers, strict=True))]
    findings = _first(name for row in rows for name in row.findings)
    script = render("chexvision.report", "dashboard.js")
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    return render(
        "chexvision.report",
        "dashboard.html",
        mark=_MARK,
        title=_short(title),
        rows=rows,
        columns=[(name, name in NUMERIC) for name in COLUMNS],
        measured=MEASURED,
        filters=[(FILTERS[i], _first(row.filters[i] for row in rows if row.filters[i])) for i in range(len(FILTERS))],
        charts=list(_charts(ordered[:_MOST_CURVES])),
        findings=findings[:_MOST_FINDINGS],
        hidden_findings=len(findings) - len(findings[:_MOST_FINDINGS]),
        datasets=_first(name for row in rows for name in row.datasets)[:_MOST_DATASETS],
        synthetic=[row.name for row, run in zip(rows, ordered, strict=True) if synthetic_part(run)],
        test_sets=list(_test_sets(ordered, numbers)),
        script=Markup(script),
        script_sha256=digest,
        output_name=output_name,
    )


def _first(names: Iterator[str]) -> list[str]:
    """Each once, in the order of their first occurrence."""
    return list(dict.fromkeys(names))


def _short(value: str) -> str:
    text = printable(value)
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 1]}…"


def _test_sets(runs: Sequence[PublishedRun], numbers: Sequence[int | None]) -> Iterator[tuple[str, str]]:
    """A letter and a description of each set of measured images."""
    seen: set[int] = set()
    for run, of in zip(runs, numbers, strict=True):
        if run.metrics is None or of is None or of in seen:
            continue
        seen.add(of)
        metrics, kind, over = run.metrics.metrics, synthetic_part(run), run.metrics.metrics.macro.findings
        what = f"{_dataset(run.metrics.dataset)}, {metrics.images:,} {_short(run.metrics.split)} images"
        what += f" of {metrics.patients:,} patients{'' if kind is None else f', {kind}'}"
        yield _letters(of), f"{what}; macro AUROC over {over} finding{'' if over == 1 else 's'}"


def _letters(i: int) -> str:
    return chr(ord("A") + i) if i < 26 else _letters(i // 26 - 1) + _letters(i % 26)


def _dataset(text: str) -> str:
    """A dataset without its commit, or a folder without those above it."""
    try:
        reference = parse_reference(text)
    except UsageError:
        return _short(text)
    return _short(reference.repo_id if isinstance(reference, RepoRef) else reference.name)


def _row(i: int, run: PublishedRun, test_set: int | None) -> Row:
    of, info = run.metrics, run.info
    metrics = of.metrics if of is not None else None
    recipe, backbone = "", ""
    if info is not None:
        recipe, backbone = _short(info.recipe.name), _short(info.recipe.model.backbone.removeprefix(TIMM))
    elif run.ensemble is not None:
        backbone = f"ensemble of {len(run.ensemble.members)}"
    dataset = _dataset(of.dataset) if of is not None else ""
    split = _short(of.split_rule or "") if of is not None else ""
    letter, kind = "" if test_set is None else _letters(test_set), synthetic_part(run)
    tag = letter if kind is None else f"{letter} {kind}"
    hours = info.train_seconds / 3600 if info is not None else None
    binary = metrics.binary["auroc"] if metrics is not None and metrics.binary is not None else UNDEFINED
    cells = (
        Shown(tag, tag),
        _estimate(metrics.macro["auroc"] if metrics is not None else UNDEFINED, letter),
        _estimate(binary, letter),
        Shown(_short(run.finished_at[:10]), _short(run.finished_at)),
        *(Shown(text, text) for text in (recipe, backbone, dataset, split)),
        _epochs(run),
        _millions(run.parameters),
        Shown("", -1.0) if hours is None else Shown(f"{hours:.2f}", hours),
    )
    return Row(
        i,
        _short(run.name),
        run.page,
        Markup(svg_text(swatch(i))) if run.curve and i < _MOST_CURVES else Markup(),
        cells,
        tag,
        (recipe, backbone, dataset, tag),
        _findings(metrics),
        _datasets(of),
        tuple(map(_short, run.problems)),
    )


def _epochs(run: PublishedRun) -> Shown:
    """The epoch that was kept, of how many."""
    if not run.curve:
        return Shown("", -1.0)
    last = run.curve[-1].epoch
    kept = run.metrics.epoch if run.metrics is not None else None
    return Shown(f"{last}" if kept is None else f"{kept} of {last}", float(last))


def _estimate(of: Estimate, letter: str) -> Shown:
    return Shown("", -1.0) if of.value is None else Shown(number(of), of.value, test_set=letter)


def _millions(parameters: int | None) -> Shown:
    return Shown("", -1.0) if parameters is None else Shown(f"{parameters / 1e6:.1f} M", float(parameters))


def _findings(metrics: SplitMetrics | None) -> dict[str, Shown]:
    """AUROC by finding; blank where there are too few cases."""
    if metrics is None:
        return {}
    return {_short(name): _colored(of["auroc"]) for name, of in metrics.findings.items()}


def _colored(of: Estimate) -> Shown:
    """A value, colored from an AUROC of 0.5, which is chance, to 1."""
    if of.value is None:
        return Shown("", -1.0)
    return Shown(number(of, interval=False), of.value, round(min(1.0, max(0.0, 2 * of.value - 1)), 3))


def _datasets(of: Evaluation | None) -> dict[str, Shown]:
    """Macro AUROC on each dataset of a mixture, over the findings that it labels."""
    if of is None:
        return {}
    return {_short(part.name): _colored(part.metrics.macro["auroc"]) for part in of.mixture}


def _charts(runs: Sequence[PublishedRun]) -> Iterator[Markup]:
    """Macro AUROC and loss of validation by epoch."""
    auroc = [
        Series(i, _short(run.name), [(of.epoch, of.macro_auroc) for of in run.curve if of.macro_auroc is not None])
        for i, run in enumerate(runs)
    ]
    loss = [
        Series(i, _short(run.name), [(of.epoch, of.validation_loss) for of in run.curve])
        for i, run in enumerate(runs)
    ]
    for heading, label, series in (
        ("Macro AUROC of validation", "macro AUROC", auroc),
        ("Loss of validation", "loss", loss),
    ):
        chart = overlay(heading, label, [of for of in series if of.points])
        if chart is not None:
            yield Markup(svg_text(chart))
