"""PadChest: `PADCHEST_chest_x_ray_images_labels_160K_01.02.19.csv`, and folders or archives 0 to 54 of 16-bit PNG."""

from __future__ import annotations

import re
from pathlib import PurePosixPath

from chexvision.errors import UsageError
from chexvision.foreign import printable
from chexvision.label_maps.label_map import label_map_path, read_label_map
from chexvision.label_maps.label_values import label_values
from chexvision.label_maps.labeled_images import SEXES
from chexvision.label_maps.table_rows import TableRow, need_columns, plain_rows
from chexvision.labels import LabelSpace
from chexvision.releases.image_entry import entry_of
from chexvision.releases.located import LATERAL, Listed, locate, pixels, table_of, why_left_out
from chexvision.releases.release import Reading, Release
from chexvision.releases.terms import Terms

PADCHEST_TERMS = Terms(
    title="PadChest",
    homepage="https://bimcv.cipf.es/bimcv-projects/padchest/",
    license="other",
    license_name="padchest-dataset-research-use-agreement",
    license_link="https://bimcv.cipf.es/bimcv-projects/padchest/padchest-dataset-research-use-agreement/",
    credentialed=True,
    citation=(
        "Aurelia Bustos, Antonio Pertusa, Jose-Maria Salinas, Maria de la Iglesia-Vayá. PadChest: A large chest "
        "x-ray image dataset with multi-label annotated reports. Medical Image Analysis 66, 101797, 2020."
    ),
)
_TABLE = ("PADCHEST_chest_x_ray_images_labels_160K_01.02.19.csv", "PADCHEST_chest_x_ray_images_labels*.csv")
_NEEDED = ("ImageID", "PatientID", "Projection", "Labels")
_OTHERS = ("StudyID", "StudyDate_DICOM", "PatientBirth", "PatientSex_DICOM", "Rows_DICOM", "Columns_DICOM")
# Projection of the 160,861 images: PA 91,728, L 49,579, AP_horizontal 14,346, AP 4,559; others are of ribs (COSTAL,
# 630), of no chest (EXCLUDE, 11) and not known (UNK, 8). TorchXRayVision lists 21 files that are missing or broken.
_VIEWS = {"PA": "PA", "AP": "AP", "AP_horizontal": "AP", "L": LATERAL}
_IMAGE = re.compile(r"[A-Za-z0-9][A-Za-z0-9_. -]{0,119}\.png", re.ASCII | re.IGNORECASE)
_OLDEST = 120


def read_padchest(reading: Reading) -> Release:
    """Read PadChest; images are found by their file names, in any folders or archives.

    It has no split of its own. Patients and studies have identifiers of up to 39 digits, so they are numbered in the
    order of these.

    Raises:
        UsageError: the table is missing or not valid, or the images are not there.
        ChexError: an archive is damaged.
    """
    label_map = read_label_map("padchest")
    space = LabelSpace(findings=label_map.label_space.findings)  # its "normal" is the "No Finding" of other sets
    table = table_of(reading, _TABLE)
    rows = plain_rows(table, {*_NEEDED, *_OTHERS}, complete=True)
    need_columns(rows[0], _NEEDED, table)
    patients, studies = _numbered(rows, "PatientID"), _numbered(rows, "StudyID")
    listed: dict[str, Listed] = {}
    labels = label_values(rows, label_map, table, strict=True, contradictions=True)
    for row, found in zip(rows, labels, strict=True):
        image = row.cells["ImageID"]
        if not _IMAGE.fullmatch(image):
            raise UsageError(f"{row.where}: {printable(image)!r} is not the name of a PNG file")
        if image in listed:
            raise UsageError(f"{row.where} names {image} again, first in {listed[image].where}")
        if row.cells["PatientID"] not in patients:
            raise UsageError(f"{row.where} names no patient; images of one patient could end in two splits")
        view = _VIEWS.get(row.cells["Projection"])
        entry = entry_of(
            space,
            [found[name] for name in space.findings],
            patients[row.cells["PatientID"]],
            study_id=studies.get(row.cells.get("StudyID", "")),
            age=_age(row),
            sex=SEXES.get(row.cells.get("PatientSex_DICOM", "").casefold()),
            view=view,
            size=(pixels(row.cells.get("Columns_DICOM", "")), pixels(row.cells.get("Rows_DICOM", ""))),
        )
        listed[image] = Listed(row.where, image, entry, why_left_out(view, frontal=False, views=reading.views))
    located = locate(reading, listed, _name, _name)
    return Release(
        space=space,
        index=located.index,
        entries=located.entries,
        tables=(table, label_map_path("padchest")),
        numbered=True,
        missing=located.missing,
        left_out=located.left_out,
    )


def _numbered(rows: list[TableRow], column: str) -> dict[str, int]:
    """A number from 1 for each identifier."""
    return {name: i for i, name in enumerate(sorted({row.cells.get(column, "") for row in rows} - {""}), 1)}


def _age(row: TableRow) -> int | None:
    """Years between the year of birth and the study."""
    born, study = row.cells.get("PatientBirth", "").removesuffix(".0"), row.cells.get("StudyDate_DICOM", "")
    if not (born.isascii() and born.isdigit() and study[:4].isascii() and study[:4].isdigit()):
        return None
    age = int(study[:4]) - int(born)
    return age if 0 <= age <= _OLDEST else None


def _name(member: str) -> str:
    return PurePosixPath(member).name
