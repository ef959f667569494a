"""Parts of cards: tables that fit a page of 700 to 800 pixels, captions of figures, and lines about files."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from chexvision.artifact.contents import FIGURES, RunInfo
from chexvision.artifact.metrics_file import CheckResult
from chexvision.artifact.mixture_records import DataTerms, PartResult, TrainedOn
from chexvision.hub.reference import RepoRef, parse_reference
from chexvision.labels import NIH
from chexvision.metrics.catalog import METRICS
from chexvision.metrics.records import Attribute, SplitMetrics
from chexvision.report.evaluation_tables import metrics_table, subgroup_table
from chexvision.report.table import Column, Table, markdown_table, row
from chexvision.runtime.export_info import ExportInfo
from chexvision.templating import render

if TYPE_CHECKING:
    from markupsafe import Markup


OVERLAY = "overlay.jpg"  # see `chexvision.explain.card_example`
_CAPTIONS = {
    "roc.svg": "Sensitivity and specificity at all thresholds. Circle: the published threshold.",
    "precision-recall.svg": "Precision and recall at all thresholds. Circle: the published threshold; dashed line: "
    "prevalence.",
    "calibration.svg": "Observed frequency at each predicted probability, in bins of equal numbers of images with "
    "their positives below; axes are scaled by their square root. Gray, dashed: before calibration.",
    OVERLAY: "A synthetic image and the regions that raise one finding's logit. A map does not show that the finding "
    "is present.",
}
# Metrics of the ranking are shown with intervals, the others are short.
_RANKING = [of.title for of in METRICS.values() if of.higher_is_better and not of.at_threshold]
_OTHERS = [of.title for of in METRICS.values() if of.title not in _RANKING]


@dataclass(frozen=True, slots=True)
class Figure:
    """An image file of a card.

    Args:
        path: within the model's folder.
        alt: what it is, in few words.
        caption: what it shows.
    """

    path: str
    alt: str
    caption: str


def figures_of(names: Sequence[str]) -> tuple[list[Figure], Figure | None]:
    """The curves among the files in the folder `FIGURES`, and the overlay if there is one."""

    def figure(name: str) -> Figure:
        alt = name.partition(".")[0].replace("-", " ") + (" curves" if name.endswith(".svg") else " of a heat map")
        return Figure(f"{FIGURES}/{name}", alt, _CAPTIONS.get(name, ""))

    return [figure(name) for name in names if name != OVERLAY], figure(OVERLAY) if OVERLAY in names else None


def split_tables(of: SplitMetrics, name: str) -> tuple[Table, Table, Table]:
    """The metrics of a split: of the ranking, the others, and notes on both as a table without rows."""
    complete = metrics_table(of, name)
    notes = Table("", (), (), complete.notes)
    return complete.narrowed(["positives", *_RANKING]), complete.narrowed(["threshold", *_OTHERS]), notes


def card_subgroups(attributes: Sequence[Attribute]) -> list[Table]:
    """Tables of the groups, without their patients, and with intervals of the AUROCs alone."""
    tables = []
    for attribute in attributes:
        complete = subgroup_table(attribute)
        heads = [column.head for column in complete.columns if column.head != "patients"]
        narrow = complete.narrowed(heads, plain=("recall", "specificity"))
        tables.append(Table(narrow.title, narrow.columns, narrow.rows, complete.notes))
    return tables


def with_exported(card: str, made: ExportInfo | str) -> str:
    """A rendered card that lists the exported files, or says why there are none, whatever it said before."""
    shown = export_values(None) | {"failure": made} if isinstance(made, str) else export_values(made)
    section = render("chexvision.report", "exported.md", **shown)
    if _EXPORTED.search(card):
        return _EXPORTED.sub(lambda _: section, card, count=1)
    return card.replace("\n## Limits\n", f"\n{section}\n## Limits\n", 1)


def export_values(info: ExportInfo | None) -> dict[str, Any]:
    """What the section on exported files shows."""
    return {"exported": None if info is None else _exported_table(info), "info": info, "failure": None}


def trained_on_table(datasets: Sequence[TrainedOn]) -> Table:
    """The data sets of a mixture: identity, split, images of each split and of an epoch, and terms."""

    def images(of: TrainedOn, split: str) -> int | None:
        return of.split.parts[split].images if split in of.split.parts else None

    rows = [
        row(
            of.name + (" (synthetic)" if of.synthetic else ""),
            public_name(of.dataset),
            f"{of.dataset_identity[:12]}…",
            str(of.split),
            *(images(of, split) for split in ("train", "validation", "test")),
            of.images_per_epoch,
            len(of.findings),
            of.in_words,
        )
        for of in datasets
    ]
    prose = ("data set", "shards", "identity", "split", "terms")
    heads = (*prose[:4], "train", "validation", "test", "images per epoch", "findings labeled", "terms")
    return Table("", tuple(Column(head, prose=head in prose) for head in heads), tuple(rows))


def citations(run: RunInfo | None) -> dict[str, Any]:
    """What a card cites: what the terms of the run's data name, and NIH's paper for data of its findings without."""
    mixed: list[tuple[DataTerms | None, tuple[str, ...]]] = [(of, of.findings) for of in run.datasets] if run else []
    found = mixed or [(run.terms if run else None, NIH.findings)]
    texts = dict.fromkeys(of.citation for of, _ in found if of is not None and of.citation)
    unnamed = [findings for of, findings in found if of is None or not of.citation]
    return {"citations": [*texts], "cites_nih": NIH.findings in unnamed}


def parts_table(parts: Sequence[PartResult]) -> Table:
    """A model on each data set of its mixture, and the mean of their macro AUROCs."""
    rows = [
        row(
            of.name,
            of.metrics.images,
            of.metrics.macro.findings,
            of.metrics.macro["auroc"],
            of.metrics.binary["auroc"] if of.metrics.binary is not None else None,
            of.metrics.macro["f1"],
        )
        for of in parts
    ]
    known = [of.metrics.macro_auroc for of in parts if of.metrics.macro_auroc is not None]
    rows.append(row("mean", "", "", sum(known) / len(known) if known else None, "", "", emphasis=True))
    heads = ("data set", "images", "findings", "macro AUROC", "normal/abnormal AUROC", "macro F1")
    return Table("", tuple(Column(head, prose=head == "data set") for head in heads), tuple(rows))


def public_name(dataset: str) -> str:
    """A repository at its commit; of a folder its last part alone."""
    reference = parse_reference(dataset)
    return str(reference) if isinstance(reference, RepoRef) else reference.name


def check_line(check: CheckResult | None) -> str:
    """What the card says about the input check."""
    if check is None:
        return "none: the model answers for any image, also for one that is not a frontal chest radiograph"
    from chexvision.predict.input_check import FILE, MESSAGES  # needs numpy, which a laptop that publishes lacks

    flagged = f"{check.flagged:,} of the {check.images:,} validation images that it was fitted on"
    if check.test_images is not None:
        flagged += f" and {check.test_flagged:,} of {check.test_images:,} test images"
    return f"{FILE}: {', '.join(MESSAGES)}. It flags {flagged}; predict warns of such images"


def _exported_table(info: ExportInfo) -> Markup:
    def rows() -> Iterator[Sequence[str]]:
        for path, file in sorted(info.files.items()):
            yield path, f"{file.bytes / 1e6:.1f} MB", f"{file.images:,}", f"{file.largest_difference:.1e}"

    heads = ("file", "size", "images compared", "largest difference of a probability")
    columns = tuple(Column(head) for head in heads)
    return markdown_table(Table("", columns, tuple(row(*one) for one in rows())))


_EXPORTED = re.compile(r"^## Exported files\n.*?(?=\n## )", re.DOTALL | re.MULTILINE)
