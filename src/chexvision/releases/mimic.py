"""MIMIC-CXR, as JPEG or DICOM: the tables of MIMIC-CXR-JPG, and `files/p10/p10000032/s50414267/<dicom_id>.jpg`."""

from __future__ import annotations

import re
from pathlib import Path, PurePosixPath

from chexvision.errors import UsageError
from chexvision.foreign import printable
from chexvision.label_maps.label_map import LabelMap, label_map_path, read_label_map
from chexvision.label_maps.table_rows import TableRow, need_columns, plain_rows
from chexvision.labels import UNKNOWN
from chexvision.releases.image_entry import entry_of
from chexvision.releases.located import (
    LATERAL,
    Listed,
    assign,
    locate,
    pixels,
    table_beside,
    table_of,
    whole,
    why_left_out,
)
from chexvision.releases.release import Reading, Release
from chexvision.releases.report_labels import labeled_rows
from chexvision.releases.terms import Terms

MIMIC_TERMS = Terms(
    title="MIMIC-CXR",
    homepage="https://physionet.org/content/mimic-cxr-jpg/",
    license="other",
    license_name="physionet-credentialed-health-data-license-1.5.0",
    license_link="https://physionet.org/content/mimic-cxr-jpg/view-license/2.1.0/",
    credentialed=True,
    citation=(
        "Alistair E. W. Johnson, Tom J. Pollard, Seth J. Berkowitz, et al. MIMIC-CXR, a de-identified publicly "
        "available database of chest radiographs with free-text reports. Scientific Data 6, 317, 2019."
    ),
)
# Version 2.1.0 of the project has the tables of 2.0.0. `negbio` has labels of another program: it is used where it is
# named. 8 of the 227,835 studies have no labels. mimic-cxr-2.1.0-test-set-labeled.csv, by radiologists, is not read.
_LABELS = ("mimic-cxr-2.0.0-chexpert.csv", "mimic-cxr-2.*-chexpert.csv")
_METADATA = ("mimic-cxr-2.0.0-metadata.csv", "mimic-cxr-2.*-metadata.csv")
_SPLIT = ("mimic-cxr-2.0.0-split.csv", "mimic-cxr-2.*-split.csv")
_SPLITS = {"train": "train", "validate": "validation", "test": "test"}
# ViewPosition of the 377,110 images: AP 147,173, PA 96,161, LATERAL 82,853, LL 35,133, blank 15,769. The other 21 are
# AP AXIAL, LAO, RAO, LPO, SWIMMERS, XTABLE LATERAL and decubitus views such as PA LLD.
_VIEWS = {"PA": "PA", "AP": "AP", "LATERAL": LATERAL, "LL": LATERAL}
_IMAGE = re.compile(r"[A-Za-z0-9][A-Za-z0-9-]{0,79}", re.ASCII)


def read_mimic(reading: Reading) -> Release:
    """Read MIMIC-CXR; images are found by their identifiers, in any folders, as JPEG, PNG or DICOM.

    Raises:
        UsageError: a table is missing or not valid, or the images are not there.
        ChexError: an archive is damaged.
    """
    label_map = read_label_map("mimic")
    space = label_map.label_space
    labels = table_of(reading, _LABELS)
    metadata, split = table_beside(labels, _METADATA), table_beside(labels, _SPLIT)
    if metadata is None:
        raise UsageError(f"no {_METADATA[0]} next to {labels}: it names the images and their views")
    of_study = _labels_of_studies(labels, label_map)
    listed: dict[str, Listed] = {}
    needed = ("dicom_id", "subject_id", "study_id", "ViewPosition")
    rows = plain_rows(metadata, {*needed, "Rows", "Columns"}, complete=True)
    need_columns(rows[0], needed, metadata)
    for row in rows:
        image = row.cells["dicom_id"]
        if not _IMAGE.fullmatch(image):
            raise UsageError(f"{row.where}: {printable(image)!r} is not a dicom_id such as 02aa804e-bde0afdd")
        if image in listed:
            raise UsageError(f"{row.where} names {image} again, first in {listed[image].where}")
        patient, study = _numbers(row)
        values = of_study.get((patient, study))
        view = _VIEWS.get(row.cells["ViewPosition"].upper())
        entry = entry_of(
            space,
            values or (UNKNOWN,) * len(space.findings),
            patient,
            study_id=study,
            view=view,
            size=(pixels(row.cells.get("Columns", "")), pixels(row.cells.get("Rows", ""))),
        )
        other_view = why_left_out(view, frontal=False, views=reading.views)
        listed[image] = Listed(row.where, image, entry, "no labels of its study" if values is None else other_view)
    located = locate(reading, listed, _key, _name)
    return Release(
        space=space,
        index=located.index,
        entries=located.entries,
        tables=(labels, metadata, label_map_path("mimic")),
        splits=_splits(split, listed) if split is not None else None,
        split_tables=(split,) if split is not None else (),
        missing=located.missing,
        left_out=located.left_out,
    )


def _labels_of_studies(path: Path, label_map: LabelMap) -> dict[tuple[int, int], tuple[float, ...]]:
    """The labels of each patient's study."""
    found: dict[tuple[int, int], tuple[float, ...]] = {}
    for row, values in labeled_rows(path, label_map, ("subject_id", "study_id")):
        study = _numbers(row)
        if study in found:
            raise UsageError(f"{row.where} labels study {study[1]} again; one row per study")
        found[study] = values
    return found


def _numbers(row: TableRow) -> tuple[int, int]:
    return whole(row.cells["subject_id"], "subject", row.where), whole(row.cells["study_id"], "study", row.where)


def _splits(path: Path, listed: dict[str, Listed]) -> dict[int, str]:
    """The split of each patient."""
    rows = plain_rows(path, {"dicom_id", "subject_id", "split"}, complete=True)
    need_columns(rows[0], ("dicom_id", "subject_id", "split"), path)
    splits: dict[int, str] = {}
    for row in rows:
        split = _SPLITS.get(row.cells["split"])
        if split is None:
            raise UsageError(f"{row.where}: {printable(row.cells['split'])!r} is not train, validate or test")
        assign(splits, whole(row.cells["subject_id"], "subject", row.where), split, row.where)
    lacking = next((row for row in listed.values() if row.entry.patient_id not in splits), None)
    if lacking is not None:
        raise UsageError(f"{path} has no split for patient {lacking.entry.patient_id} of {lacking.where}")
    return splits


def _key(member: str) -> str:
    return PurePosixPath(member).stem


def _name(member: str) -> str:
    return PurePosixPath(member).name
