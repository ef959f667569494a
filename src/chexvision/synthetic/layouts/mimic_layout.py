"""Synthetic releases in the layouts of MIMIC-CXR-JPG 2.1.0 and of MIMIC-CXR's DICOM files, with their odd rows.

The labels lack one study (8 of 227,835), and the views are those of `chexvision.releases.mimic`. Version 2.1.0 has
radiologists' labels of 687 test studies too, which names no patients and calls Lung Opacity Airspace Opacity.
"""

from __future__ import annotations

import csv
import gzip
import hashlib
import io
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

from chexvision.images.radiograph import encode_grey
from chexvision.synthetic.layouts.chexpert_layout import LABELS, chexpert_cells
from chexvision.synthetic.layouts.dicom_file import dicom_file
from chexvision.synthetic.layouts.films import Film

JPG, DICOM = "mimic-cxr-jpg/2.1.0", "mimic-cxr/2.1.0"
_SPLITS = {"train": "train", "validation": "validate", "test": "test"}
_RARE_VIEWS = (
    "", "AP AXIAL", "LAO", "PA LLD", "SWIMMERS", "AP LLD", "XTABLE LATERAL", "RAO", "AP RLD", "PA RLD", "LPO",
)  # fmt: skip
_FIRST_PATIENT, _FIRST_STUDY = 10_000_000, 50_000_000
_METADATA = (
    "dicom_id", "subject_id", "study_id", "PerformedProcedureStepDescription", "ViewPosition", "Rows", "Columns",
    "StudyDate", "StudyTime", "ProcedureCodeSequence_CodeMeaning", "ViewCodeSequence_CodeMeaning",
    "PatientOrientationCodeSequence_CodeMeaning",
)  # fmt: skip


def write_mimic_jpg(out: Path, films: Sequence[Film], size: int) -> None:
    """Write the tables and JPEG files below `JPG`."""
    _write_tables(out / JPG, films, size)
    for film in films:
        _write(out / JPG / f"{_path(film)}.jpg", encode_grey(film.pixels(size), "jpeg"))


def write_mimic_dicom(out: Path, films: Sequence[Film], size: int) -> None:
    """Write DICOM files with their list below `DICOM`, and the tables of MIMIC-CXR-JPG below `JPG`."""
    _write_tables(out / JPG, films, size)
    records = []
    for i, film in enumerate(films):
        view = "LATERAL" if film.view == "L" else film.view
        data = dicom_file(film.pixels(size), f"1.2.3.{i + 1}", view, monochrome1=i % 5 == 0)
        _write(out / DICOM / f"{_path(film)}.dcm", data)
        records.append((_subject(film), _study(film), _dicom_id(film), f"{_path(film)}.dcm"))
    _write_table(out / DICOM / "cxr-record-list.csv.gz", ("subject_id", "study_id", "dicom_id", "path"), records)


def _write_tables(root: Path, films: Sequence[Film], size: int) -> None:
    findings = sorted(LABELS)
    images = Counter(_study(film) for film in films)
    unlabeled = next((_study(film) for film in reversed(films) if images[_study(film)] == 1), None)
    studies = {(_subject(film), _study(film)): chexpert_cells(film) for film in films if _study(film) != unlabeled}
    for name in ("chexpert", "negbio"):
        rows = ((*study, *(cells[label] for label in findings)) for study, cells in studies.items())
        _write_table(root / f"mimic-cxr-2.0.0-{name}.csv.gz", ("subject_id", "study_id", *findings), rows)
    procedure = "CHEST (PA AND LAT)"
    metadata = (
        (_dicom_id(film), _subject(film), _study(film), procedure, _view(film), size, film.pixels(size).shape[1],
         *[""] * 5)
        for film in films
    )  # fmt: skip
    _write_table(root / "mimic-cxr-2.0.0-metadata.csv.gz", _METADATA, metadata)
    splits = ((_dicom_id(film), _study(film), _subject(film), _SPLITS[film.split]) for film in films)
    _write_table(root / "mimic-cxr-2.0.0-split.csv.gz", ("dicom_id", "study_id", "subject_id", "split"), splits)
    read = [study for study, film in zip(map(_study, films), films, strict=True) if film.split == "test"]
    heads = ["study_id", *("Airspace Opacity" if label == "Lung Opacity" else label for label in findings)]
    people = io.StringIO(newline="")
    csv.writer(people, lineterminator="\n").writerows([heads, *([study, *["0.0"] * len(findings)] for study in read)])
    _write(root / "mimic-cxr-2.1.0-test-set-labeled.csv", people.getvalue().encode())
    _write(root / "IMAGE_FILENAMES", "".join(f"{_path(film)}.jpg\n" for film in films).encode())


def _view(film: Film) -> str:
    """`ViewPosition`: laterals are LATERAL or LL there, and a few images are blank or neither."""
    if film.view == "L":
        return "LATERAL" if film.visit.patient % 2 else "LL"
    return _RARE_VIEWS[film.visit.patient % len(_RARE_VIEWS)] if film.visit.follow_up == 3 else film.view


def _path(film: Film) -> str:
    subject = str(_subject(film))
    return f"files/p{subject[:2]}/p{subject}/s{_study(film)}/{_dicom_id(film)}"


def _subject(film: Film) -> int:
    return _FIRST_PATIENT + film.visit.patient


def _study(film: Film) -> int:
    return _FIRST_STUDY + 100 * film.visit.patient + film.visit.follow_up


def _dicom_id(film: Film) -> str:
    digits = hashlib.sha256(f"{film.seed}:{_study(film)}:{film.number}".encode()).hexdigest()
    return "-".join(digits[i : i + 8] for i in range(0, 40, 8))


def _write(path: Path, data: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)


def _write_table(path: Path, heads: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    text = io.StringIO(newline="")
    csv.writer(text, lineterminator="\n").writerows([heads, *rows])
    _write(path, gzip.compress(text.getvalue().encode(), mtime=0))
