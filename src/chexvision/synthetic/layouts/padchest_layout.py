"""A synthetic release in the layout of PadChest: some folders as they are, others as the archives they come in.

Of its table it has the 36 columns and what is odd in its 160,861 rows: labels that are nan (103), that start with a
space (29,282) or are empty (3,041), "normal" next to findings (232), reports of several lines, the sexes O (18) and
nan (4), no year of birth (6), images of ribs (630), of no chest (11) or of an unknown projection (8), and identifiers
of studies and names of images with letters, - and _ (2,623).
"""

from __future__ import annotations

import csv
import io
import zipfile
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np

from chexvision.images.radiograph import Grey
from chexvision.synthetic.layouts.films import Film

TABLE = "PADCHEST_chest_x_ray_images_labels_160K_01.02.19.csv"
_HEADS = (
    "", "ImageID", "ImageDir", "StudyDate_DICOM", "StudyID", "PatientID", "PatientBirth", "PatientSex_DICOM",
    "ViewPosition_DICOM", "Projection", "MethodProjection", "Pediatric", "Modality_DICOM", "Manufacturer_DICOM",
    "PhotometricInterpretation_DICOM", "PixelRepresentation_DICOM", "PixelAspectRatio_DICOM",
    "SpatialResolution_DICOM", "BitsStored_DICOM", "WindowCenter_DICOM", "WindowWidth_DICOM", "Rows_DICOM",
    "Columns_DICOM", "XRayTubeCurrent_DICOM", "Exposure_DICOM", "ExposureInuAs_DICOM", "ExposureTime",
    "RelativeXRayExposure_DICOM", "ReportID", "Report", "MethodLabel", "Labels", "Localizations",
    "LabelsLocalizationsBySentence", "labelCUIS", "LocalizationsCUIS",
)  # fmt: skip
# Of the frontal images, the second and the next.
_ODD_ROWS: tuple[dict[str, str], ...] = (
    {"Labels": "nan", "Report": "informe\nsintetico"},
    {"Labels": "['']", "PatientSex_DICOM": "O"},
    {"Labels": "['exclude']", "PatientBirth": "", "Pediatric": "PED"},
    {"Projection": "COSTAL", "PatientSex_DICOM": "nan"},
    {"Projection": "EXCLUDE"},
    {"Projection": "UNK", "ViewPosition_DICOM": "OBLICUA"},
)
_FOLDERS = 4  # of the 55; the last ones are archives
_ARCHIVES = 1
_NAMES = {
    "Atelectasis": "laminar atelectasis", "Cardiomegaly": "cardiomegaly", "Effusion": "pleural effusion",
    "Infiltration": "interstitial pattern", "Mass": "pulmonary mass", "Nodule": "nodule", "Pneumonia": "pneumonia",
    "Pneumothorax": "pneumothorax", "Consolidation": "consolidation", "Edema": "pulmonary edema",
    "Emphysema": "emphysema", "Fibrosis": "pulmonary fibrosis", "Pleural_Thickening": "apical pleural thickening",
    "Hernia": "hiatal hernia",
}  # fmt: skip
_YEAR = 2014


def write_padchest(out: Path, films: Sequence[Film], size: int) -> None:
    """Write the table, folders of 16-bit PNG files, and an archive of such."""
    rows, archived = [], io.BytesIO()
    odd_rows = dict(zip([i for i, film in enumerate(films) if film.view != "L"][1:], _ODD_ROWS, strict=False))
    with zipfile.ZipFile(archived, "w") as archive:
        for i, film in enumerate(films):
            folder, name = i % _FOLDERS, f"{_number(film, 1)}{'-4_hhi' if _has_letters(film) else '_00-'}{i:06d}.png"
            pixels = film.pixels(size)
            cells = _row(i, film, folder, name, pixels) | odd_rows.get(i, {})
            rows.append([cells.get(head, "nan") for head in _HEADS])
            if folder < _FOLDERS - _ARCHIVES:
                (out / str(folder)).mkdir(parents=True, exist_ok=True)
                (out / str(folder) / name).write_bytes(_png16(pixels))
            else:
                archive.writestr(zipfile.ZipInfo(name), _png16(pixels))  # a fixed date
    (out / f"{_FOLDERS - 1}.zip").write_bytes(archived.getvalue())
    with (out / TABLE).open("w", encoding="utf-8", newline="") as file:
        csv.writer(file, lineterminator="\n").writerows([_HEADS, *rows])


def _row(index: int, film: Film, folder: int, name: str, pixels: Grey) -> dict[str, object]:
    visit = film.visit
    labels = sorted({_NAMES[finding] for finding in visit.findings}) or ["normal"]
    draw = film.random(1).random()
    if draw < 0.1:
        labels = ["", "scoliosis"] if labels == ["normal"] else [*labels, " scoliosis", " normal"]
    elif draw < 0.15:
        labels = ["unchanged"]
    elif draw < 0.18:
        labels = []
    height, width = pixels.shape
    return {
        "": index, "ImageID": name, "ImageDir": folder,
        "StudyDate_DICOM": f"{_YEAR + visit.follow_up // 3}0101",
        "StudyID": f"{_number(film, 2)}{'-4' if _has_letters(film) else ''}",
        "PatientID": _number(film, 3), "PatientBirth": float(_YEAR - visit.age), "PatientSex_DICOM": visit.sex,
        "Projection": "AP_horizontal" if film.view == "AP" and visit.follow_up % 2 else film.view,
        "MethodProjection": "Manual review of DICOM fields", "Pediatric": "No", "Modality_DICOM": "DX",
        "PhotometricInterpretation_DICOM": "MONOCHROME2", "BitsStored_DICOM": 12, "Rows_DICOM": height,
        "Columns_DICOM": width, "ReportID": index, "Report": "informe, sintetico", "MethodLabel": "Physician",
        "Labels": str(labels) if labels else "",
    }  # fmt: skip


def _has_letters(film: Film) -> bool:
    """Whether its identifiers are not only digits."""
    return film.visit.patient % 5 == 0


def _number(film: Film, kind: int) -> int:
    """An identifier of up to 39 digits: 1 of an image, 2 of its study, 3 of the patient."""
    of_patient = film.visit.patient * 10**30 + 4_277_117
    return kind * 10**38 + of_patient + (0 if kind == 3 else 1000 * film.visit.follow_up)


def _png16(pixels: Grey) -> bytes:
    """12-bit values in 16 bits, as detectors give them."""
    values = np.round(pixels.astype(np.float64) * 4095 / 255).astype(np.uint16)
    return cv2.imencode(".png", values)[1].tobytes()
