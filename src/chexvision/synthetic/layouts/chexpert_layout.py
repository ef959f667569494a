"""A synthetic release in the layout of CheXpert-v1.0-small, with the odd rows of its `train.csv`.

One row each, of the real table's 223,414 rows: no sex (1 row), the age 0 where all others are 18 or older (3), a
second view that is named frontal and has LL or RL in AP/PA (17), none of the 14 labels (12).
"""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path

from chexvision.images.radiograph import encode_grey
from chexvision.synthetic.layouts.films import Film, report_labels

ROOT = "CheXpert-v1.0-small"
LABELS = (
    "No Finding", "Enlarged Cardiomediastinum", "Cardiomegaly", "Lung Opacity", "Lung Lesion", "Edema",
    "Consolidation", "Pneumonia", "Atelectasis", "Pneumothorax", "Pleural Effusion", "Pleural Other", "Fracture",
    "Support Devices",
)  # fmt: skip
# Of NIH's findings; emphysema, fibrosis and hernia are no labels of CheXpert.
NAMES = {
    "Atelectasis": "Atelectasis", "Cardiomegaly": "Cardiomegaly", "Effusion": "Pleural Effusion",
    "Infiltration": "Lung Opacity", "Mass": "Lung Lesion", "Nodule": "Lung Lesion", "Pneumonia": "Pneumonia",
    "Pneumothorax": "Pneumothorax", "Consolidation": "Consolidation", "Edema": "Edema",
    "Pleural_Thickening": "Pleural Other",
}  # fmt: skip
_OTHERS = ("Enlarged Cardiomediastinum", "Fracture", "Support Devices")
_TABLES = {"train": "train", "validation": "valid", "test": "test"}
_HEADS = ("Path", "Sex", "Age", "Frontal/Lateral", "AP/PA", *LABELS)


def write_chexpert(out: Path, films: Sequence[Film], size: int) -> None:
    """Write `train.csv`, `valid.csv`, `test.csv` and JPEG files below `ROOT`."""
    rows: dict[str, list[tuple[str, ...]]] = {name: [] for name in _TABLES.values()}
    frontals = [film for film in films if film.split == "train" and film.view != "L"]
    first, second, third = (*frontals, None, None, None)[:3]
    side = next((film for film in films if film.split == "train" and film.view == "L"), None)
    for film in films:
        folder, frontal = _TABLES[film.split], film.view != "L" or film is side
        name = f"view{film.number}_{'frontal' if frontal else 'lateral'}.jpg"
        path = f"{folder}/patient{film.visit.patient:05d}/study{film.visit.follow_up + 1}/{name}"
        file = out / ROOT / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(encode_grey(film.pixels(size), "jpeg"))
        sex = "Unknown" if film is first else {"M": "Male", "F": "Female"}[film.visit.sex]
        age = "0" if film is second else str(film.visit.age)
        view = ("Lateral", "") if not frontal else ("Frontal", "LL" if film is side else film.view)
        cells = chexpert_cells(film, read_by_people=film.split != "train")
        labels = ["" if film is third else cells[label] for label in LABELS]
        rows[folder].append((f"{ROOT}/{path}", sex, age, *view, *labels))
    for folder, lines in rows.items():
        with (out / ROOT / f"{folder}.csv").open("w", encoding="utf-8", newline="") as table:
            csv.writer(table, lineterminator="\n").writerows([_HEADS, *lines])


def chexpert_cells(film: Film, *, read_by_people: bool = False) -> dict[str, str]:
    """The cells of the 14 labels; those of people are all yes or no."""
    labels = report_labels(film, NAMES, _OTHERS)
    labels["No Finding"] = None if film.visit.findings else 1.0
    if read_by_people:
        return {label: "1.0" if value == 1 else "0.0" for label, value in labels.items()}
    return {label: "" if value is None else f"{value:.1f}" for label, value in labels.items()}
