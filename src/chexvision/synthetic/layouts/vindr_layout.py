"""A synthetic release in the layout of VinDr-CXR on PhysioNet: DICOM files, three readers of each training image.

The test table calls the last finding "Other disease", and has a row of each image without a reader.
"""

from __future__ import annotations

import csv
import hashlib
from collections.abc import Sequence
from pathlib import Path

from chexvision.synthetic.layouts.dicom_file import dicom_file
from chexvision.synthetic.layouts.films import Film

LABELS = (
    "Aortic enlargement", "Atelectasis", "Calcification", "Cardiomegaly", "Clavicle fracture", "Consolidation",
    "Edema", "Emphysema", "Enlarged PA", "ILD", "Infiltration", "Lung Opacity", "Lung cavity", "Lung cyst",
    "Mediastinal shift", "Nodule/Mass", "Pleural effusion", "Pleural thickening", "Pneumothorax",
    "Pulmonary fibrosis", "Rib fracture", "Other lesion", "COPD", "Lung tumor", "Pneumonia", "Tuberculosis",
    "Other diseases", "No finding",
)  # fmt: skip
NAMES = {
    "Atelectasis": "Atelectasis", "Cardiomegaly": "Cardiomegaly", "Effusion": "Pleural effusion",
    "Infiltration": "Infiltration", "Mass": "Nodule/Mass", "Nodule": "Nodule/Mass", "Pneumonia": "Pneumonia",
    "Pneumothorax": "Pneumothorax", "Consolidation": "Consolidation", "Edema": "Edema", "Emphysema": "Emphysema",
    "Fibrosis": "Pulmonary fibrosis", "Pleural_Thickening": "Pleural thickening", "Hernia": "Other diseases",
}  # fmt: skip
_IN_TEST = {"Other diseases": "Other disease"}
_READERS, _READERS_OF_AN_IMAGE = 17, 3
_MISSED, _ADDED = 0.2, 0.02  # of the findings by each reader, so that readers differ


def write_vindr(out: Path, films: Sequence[Film], size: int) -> None:
    """Write `train`, `test` and `annotations`; lateral images are left out, as there are none in VinDr-CXR."""
    rows: dict[str, list[tuple[object, ...]]] = {"train": [], "test": []}
    for i, film in enumerate(film for film in films if film.view != "L"):
        folder = "test" if film.split == "test" else "train"
        name = hashlib.md5(f"{film.seed}:{i}".encode(), usedforsecurity=False).hexdigest()
        file = out / folder / f"{name}.dicom"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(dicom_file(film.pixels(size), f"1.2.4.{i + 1}", "", monochrome1=i % 5 == 0))
        present = {NAMES[finding] for finding in film.visit.findings}
        if folder == "test":
            rows[folder].append((name, *_cells(present)))
            continue
        rng = film.random(2)
        for reader in sorted(rng.choice(_READERS, _READERS_OF_AN_IMAGE, replace=False)):
            likely = {label: 1 - _MISSED if label in present else _ADDED for label in sorted(set(NAMES.values()))}
            seen = {label for label, probability in likely.items() if rng.random() < probability}
            rows[folder].append((name, f"R{reader + 1}", *_cells(seen)))
    (out / "annotations").mkdir()
    for folder, lines in rows.items():
        labels = LABELS if folder == "train" else [_IN_TEST.get(label, label) for label in LABELS]
        heads = ("image_id", *(("rad_id",) if folder == "train" else ()), *labels)
        path = out / "annotations" / f"image_labels_{folder}.csv"
        with path.open("w", encoding="utf-8", newline="") as table:
            csv.writer(table, lineterminator="\n").writerows([heads, *lines])


def _cells(seen: set[str]) -> tuple[int, ...]:
    return tuple(int(label in seen if label != "No finding" else not seen) for label in LABELS)
