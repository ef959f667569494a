"""VinDr-CXR as PhysioNet gives it: DICOM files in `train` and `test`, and tables of what radiologists saw."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from chexvision.errors import UsageError
from chexvision.images.sources import Found, Index, find_images
from chexvision.label_maps.table_rows import TableRow, need_columns, plain_rows
from chexvision.labels import LabelSpace
from chexvision.nih.metadata import Entry
from chexvision.releases.located import table_beside, table_of
from chexvision.releases.release import Reading, Release
from chexvision.releases.terms import Terms

VINDR_TERMS = Terms(
    title="VinDr-CXR",
    homepage="https://physionet.org/content/vindr-cxr/",
    license="other",
    license_name="physionet-credentialed-health-data-license-1.5.0",
    license_link="https://physionet.org/content/vindr-cxr/view-license/1.0.0/",
    credentialed=True,
    citation=(
        "Ha Q. Nguyen, Khanh Lam, Linh T. Le, et al. VinDr-CXR: An open dataset of chest X-rays with radiologist's "
        "annotations. Scientific Data 9, 429 (2022)."
    ),
)

# Nguyen et al. 2022, table 2: 22 local and 5 global labels, next to No finding. Those that NIH ChestX-ray14 has too
# are named as there; a name cannot have "/".
_FINDINGS = {
    "Aortic enlargement": "Aortic enlargement",
    "Atelectasis": "Atelectasis",
    "Calcification": "Calcification",
    "Cardiomegaly": "Cardiomegaly",
    "Clavicle fracture": "Clavicle fracture",
    "Consolidation": "Consolidation",
    "Edema": "Edema",
    "Emphysema": "Emphysema",
    "Enlarged PA": "Enlarged PA",
    "ILD": "ILD",
    "Infiltration": "Infiltration",
    "Lung Opacity": "Lung Opacity",
    "Lung cavity": "Lung cavity",
    "Lung cyst": "Lung cyst",
    "Mediastinal shift": "Mediastinal shift",
    "Nodule/Mass": "Nodule or mass",
    "Pleural effusion": "Effusion",
    "Pleural thickening": "Pleural_Thickening",
    "Pneumothorax": "Pneumothorax",
    "Pulmonary fibrosis": "Fibrosis",
    "Rib fracture": "Rib fracture",
    "Other lesion": "Other lesion",
    "COPD": "COPD",
    "Lung tumor": "Lung tumor",
    "Pneumonia": "Pneumonia",
    "Tuberculosis": "Tuberculosis",
    "Other diseases": "Other disease",
}
# Other spellings of columns: the test table of version 1.0.0 has "Other disease".
_ALSO = {"Other diseases": "Other disease", "No finding": "No Finding"}
_NORMAL = "No finding"
_CELLS = {"0": 0, "1": 1, "0.0": 0, "1.0": 1}
_TRAIN, _TEST = "image_labels_train.csv", "image_labels_test.csv"

VINDR = LabelSpace(findings=tuple(_FINDINGS.values()))


def read_vindr(reading: Reading) -> Release:
    """Read VinDr-CXR. It names no patients, so every image is a patient of its own.

    An image of the training set has a row of each of its three readers. A finding is present where more than half of
    them saw it. Where neither a finding nor "No finding" has a majority, the findings that any of them saw are
    uncertain.

    Raises:
        UsageError: a table is missing or not valid, or none of its images is there.
        ChexError: an archive is damaged.
    """
    first = table_of(reading, [_TRAIN])
    second = table_beside(first, [_TEST])
    if second is None:
        raise UsageError(f"VinDr-CXR needs {_TEST} next to {first}; fetch it")
    tables = {"train": first, "test": second}
    read = {split: _read_table(path) for split, path in tables.items()}
    both = sorted(read["train"].keys() & read["test"].keys())
    if both:
        raise UsageError(f"image {both[0]} is in {tables['train']} and in {tables['test']}; fetch them again")
    patients = {image: number for number, image in enumerate(sorted({*read["train"], *read["test"]}), 1)}
    index = _by_image_id(find_images(reading.sources), patients)
    found = {_image_id(one) for one in index.images}
    if not found & patients.keys():
        places = ", ".join(map(str, reading.sources))
        raise UsageError(
            f"none of the {len(patients):,} images of VinDr-CXR is in {places}; name the folder that has train and "
            f"test, with files such as {min(patients)}.dicom"
        )
    labels = read["train"] | read["test"]
    return Release(
        space=VINDR,
        index=index,
        entries={one.name: _entry(labels[_image_id(one)], patients[_image_id(one)]) for one in index.images},
        tables=tuple(tables.values()),
        splits={patients[image]: split for split, rows in read.items() for image in rows},
        split_tables=tuple(tables.values()),
        without_validation=True,
        numbered=True,
        knows_patients=False,
        missing=tuple(
            (f"{image}.dicom", f"not found, but in {tables[split].name}")
            for split, rows in read.items()
            for image in rows
            if image not in found
        ),
    )


@dataclass(frozen=True, slots=True)
class _Labels:
    """The findings that are present, and those that are uncertain, by their columns.

    A reader who names a finding and `_NORMAL` leaves both present: such an image is not used, and is reported.
    """

    present: tuple[str, ...]
    uncertain: tuple[str, ...]
    unknown: bool = False


def _read_table(path: Path) -> dict[str, _Labels]:
    """What the readers of each image saw, by image."""
    rows = plain_rows(path, complete=True)
    need_columns(rows[0], ["image_id"], path)
    columns = {column: _spelled(column, rows[0], path) for column in (*_FINDINGS, _NORMAL)}
    by_image: dict[str, dict[str, TableRow]] = defaultdict(dict)
    for row in rows:
        image, reader = row.cells["image_id"], row.cells.get("rad_id", "")
        if not image:
            raise UsageError(f"{row.where} names no image")
        if reader in by_image[image]:
            of = f" of reader {reader}" if reader else ""
            raise UsageError(f"{row.where} names {image}{of} again, first in {by_image[image][reader].where}")
        by_image[image][reader] = row
    return {image: _majority(list(of.values()), columns) for image, of in by_image.items()}


def _spelled(column: str, row: TableRow, path: Path) -> str:
    also = _ALSO.get(column, column)
    if also in row.cells:
        return also
    need_columns(row, [column], path)
    return column


def _majority(rows: Sequence[TableRow], columns: dict[str, str]) -> _Labels:
    votes = dict.fromkeys(columns, 0)
    for row in rows:
        seen = {column: _cell(row, head) for column, head in columns.items()}
        if seen[_NORMAL] and (named := next((column for column in _FINDINGS if seen[column]), None)):
            return _Labels((_NORMAL, named), ())
        for column, value in seen.items():
            votes[column] += value
    present = tuple(column for column in _FINDINGS if 2 * votes[column] > len(rows))
    if present or 2 * votes[_NORMAL] > len(rows):
        return _Labels(present, ())
    any_of_them = tuple(column for column in _FINDINGS if votes[column])
    return _Labels((), any_of_them, unknown=not any_of_them)


def _cell(row: TableRow, column: str) -> int:
    value = _CELLS.get(row.cells[column])
    if value is None:
        raise UsageError(f"{row.where}: {row.cells[column]!r} in column {column!r} is neither 0 nor 1")
    return value


def _image_id(found: Found) -> str:
    return PurePosixPath(found.name).stem


def _by_image_id(index: Index, listed: Iterable[str]) -> Index:
    """The images that the tables list, each once, whatever its ending."""
    images: dict[str, Found] = {}
    duplicates = [found for found in index.duplicates if _image_id(found) in listed]
    for found in index.images:
        if _image_id(found) not in listed:
            continue
        if images.setdefault(_image_id(found), found) is not found:
            duplicates.append(found)
    return Index(tuple(images.values()), tuple(duplicates))


def _entry(labels: _Labels, patient: int) -> Entry:
    present = [_FINDINGS.get(column, VINDR.normal) for column in labels.present]
    uncertain = [_FINDINGS[column] for column in labels.uncertain]
    is_open = uncertain or labels.unknown
    return Entry(
        labels="" if is_open else VINDR.format(present),
        patient_id=patient,
        age=None,
        sex=None,
        view="PA",  # Nguyen et al. 2022: all are postero-anterior
        follow_up=None,
        original_width=None,
        original_height=None,
        uncertain="|".join(uncertain) or None,
        unknown="|".join(VINDR.findings) if labels.unknown else None,
    )
