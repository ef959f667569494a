"""The tables of an evaluation on several datasets: means and gaps, findings, calls, and models by datasets."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from chexvision.labels import ABNORMAL
from chexvision.metrics.records import UNDEFINED, Estimate, FindingMetrics, SplitMetrics
from chexvision.report.table import Cell, Column, Row, Table, row
from chexvision.report.wording import number, output_name

if TYPE_CHECKING:
    from chexvision.artifact.metrics_file import Evaluation
    from chexvision.artifact.other_results import DatasetResult, DatasetSystem

_NONE_SHARED = "no finding is labeled by all datasets with enough cases"
_IN_DOMAIN = " *"


def dataset_tables(found: Evaluation) -> list[Table]:
    """All tables of several datasets; none where one was measured."""
    if not found.datasets:
        return []
    tables = [_means(found), _by_finding(found), _calls(found), _calls_by_finding(found)]
    return [*tables, _models_by_datasets(found)] if len(found.datasets[0].systems) > 1 else tables


def _measured(found: Evaluation) -> Iterator[tuple[DatasetResult, DatasetSystem, SplitMetrics]]:
    """Every dataset with the last system's results on it."""
    name = found.systems[-1].name
    for dataset in found.datasets:
        of = dataset.system(name)
        if of is not None:
            yield dataset, of, of.metrics or found.metrics


def _output(metrics: SplitMetrics, name: str) -> FindingMetrics | None:
    return metrics.binary if name == ABNORMAL else metrics.findings.get(name)


def _auroc(metrics: SplitMetrics, name: str) -> Cell:
    """Blank where the dataset does not label the output."""
    of = _output(metrics, name)
    return Cell("") if of is None else Cell(of["auroc"], missing=of.too_few)


def _means(found: Evaluation) -> Table:
    """A row for each dataset."""
    first, shared = found.datasets[0].name, len(found.shared_findings)
    columns = (
        Column(""),
        Column("images"),
        Column("patients", console="nothing"),
        Column("split", console="nothing"),
        Column(f"macro AUROC, {shared} shared", f"mean of {shared}", bar_from=0.5),
        Column(f"minus {first}", "difference"),
        Column("all of its own", "own", console="values"),
        Column("findings", console="nothing"),
        Column("normal/abnormal", "norm./abn.", console="values"),
        Column("ECE, shared", console="nothing"),
    )
    return Table(
        f"Macro AUROC by dataset, {found.systems[-1].name}", columns, tuple(_mean_rows(found)), tuple(_notes(found))
    )


def _mean_rows(found: Evaluation) -> Iterator[Row]:
    missing = None if found.shared_findings else _NONE_SHARED
    for dataset, of, metrics in _measured(found):
        binary = metrics.binary
        yield row(
            dataset.name,
            metrics.images,
            metrics.patients,
            dataset.split if dataset.split_rule is None else f"{dataset.split}, {dataset.split_rule}",
            Cell(of.shared["auroc"], missing=missing),
            "" if of.macro is None else Cell(of.macro.difference, signed=True, missing=missing),
            metrics.macro["auroc"],
            metrics.macro.findings,
            Cell(binary["auroc"], missing=binary.too_few) if binary is not None else Cell(""),
            Cell(of.shared["ece"], 4),
            emphasis=dataset is found.datasets[0],
        )


def _notes(found: Evaluation) -> Iterator[str]:
    first = found.datasets[0].name
    paired = [dataset.name for dataset in found.datasets[1:] if dataset.same_images]
    independent = [dataset.name for dataset in found.datasets[1:] if not dataset.same_images]
    if found.shared_findings:
        yield f"Shared findings: {', '.join(found.shared_findings)}."
    if independent:
        yield (
            f"Differences from {first} of {', '.join(independent)}: other patients, resampled independently. Images "
            "and labels both differ: without labels of both kinds for some images, the two cannot be told apart."
        )
    if paired:
        yield f"Differences from {first} of {', '.join(paired)}: the same images, resampled together."
    synthetic = [dataset.name for dataset in found.datasets if dataset.synthetic]
    if synthetic and len(synthetic) < len(found.datasets):
        yield f"Synthetic images, which say nothing about patients: {', '.join(synthetic)}."


def _by_finding(found: Evaluation) -> Table:
    """AUROC of each output on each dataset, and the difference from the first."""
    measured = list(_measured(found))
    names = list(dict.fromkeys(name for _, _, metrics in measured for name in (ABNORMAL, *metrics.findings)))
    columns = [Column("")]
    for dataset, _, _ in measured:
        columns.append(Column(dataset.name, console="values"))
        if dataset is not found.datasets[0]:
            columns.append(Column("difference", console="nothing"))
    rows = []
    for name in names:
        cells: list[Cell] = []
        for dataset, of, metrics in measured:
            cells.append(_auroc(metrics, name))
            if dataset is not found.datasets[0]:
                gap = of.gaps.get(name)
                cells.append(Cell("") if gap is None else Cell(gap.difference, signed=True, missing=gap.too_few))
        rows.append(row(output_name(name), *cells))
    return Table("AUROC by dataset; blank where it does not label the finding", tuple(columns), tuple(rows))


def _calls(found: Evaluation) -> Table:
    """What the thresholds and the calibration of the first dataset do on each."""
    columns = (
        Column(""),
        Column("sensitivity, mean", "sens."),
        Column("specificity, mean", "spec."),
        Column("sensitivity, normal/abnormal", "norm./abn.", console="values"),
        Column("specificity, normal/abnormal", "spec.", console="values"),
        Column("ECE, normal/abnormal", console="nothing"),
        Column("Brier score, shared findings", console="nothing"),
    )
    rows = []
    for dataset, of, metrics in _measured(found):
        binary = metrics.binary
        recall, specificity, ece = (
            binary[name] if binary is not None else UNDEFINED for name in ("recall", "specificity", "ece")
        )
        means = (of.shared["recall"], of.shared["specificity"])
        losses = Cell(ece, 4), Cell(of.shared["brier"], 4)
        rows.append(row(dataset.name, *means, recall, specificity, *losses, emphasis=dataset is found.datasets[0]))
    chosen = found.metrics
    title = (
        f"Calls at the same thresholds ({chosen.thresholds}) and with the same calibration ({chosen.calibration}) of "
        f"{found.datasets[0].name}; means over the shared findings"
    )
    return Table(title, columns, tuple(rows))


def _calls_by_finding(found: Evaluation) -> Table:
    """Sensitivity and specificity of each shared output on each dataset."""
    measured = list(_measured(found))
    columns = [Column("")]
    for dataset, _, _ in measured:
        columns += [
            Column(f"sensitivity, {dataset.name}", f"sens. {dataset.name}", console="nothing"),
            Column(f"specificity, {dataset.name}", f"spec. {dataset.name}", console="nothing"),
        ]
    rows = []
    for name in (ABNORMAL, *found.shared_findings):
        cells: list[Cell | Estimate] = []
        for _, _, metrics in measured:
            of = _output(metrics, name)
            cells += [Cell(""), Cell("")] if of is None else [of["recall"], of["specificity"]]
        rows.append(row(output_name(name), *cells))
    return Table("Sensitivity and specificity at these thresholds", tuple(columns), tuple(rows))


def _models_by_datasets(found: Evaluation) -> Table:
    """Models by test sets, as of training sets by test sets in Pooch et al. 2019 and Cohen et al. 2020."""
    missing = None if found.shared_findings else _NONE_SHARED
    columns = (Column(""), *(Column(dataset.name) for dataset in found.datasets))
    rows, marked = [], False
    for system in found.systems:
        cells: list[str] = []
        for dataset in found.datasets:
            of = dataset.system(system.name)
            marked = marked or (of is not None and bool(of.in_domain))
            mark = _IN_DOMAIN if of is not None and of.in_domain else ""
            cells.append("" if of is None else number(of.shared["auroc"], missing=missing) + mark)
        rows.append(row(system.name, *cells))
    notes = ["* trained on images of this dataset."] if marked else []
    title = f"Models by datasets: macro AUROC of {len(found.shared_findings)} shared findings"
    return Table(title, columns, tuple(rows), tuple(notes))
