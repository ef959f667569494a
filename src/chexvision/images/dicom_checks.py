"""Whether a DICOM file says that it is a frontal radiograph of a chest.

Texts of the file are compared with the standard's terms and never repeated.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from chexvision.images.dicom_tags import (
    BODY_PART,
    BURNED_IN,
    CODE_VALUE,
    INTENT,
    MODALITY,
    PATIENT_ORIENTATION,
    VIEW_CODES,
    VIEW_POSITION,
    Elements,
)

_RADIOGRAPHS = {"CR", "DX", "RG"}
_MODALITIES = {
    "CT": "CT", "MR": "MR", "US": "ultrasound", "MG": "mammography", "NM": "nuclear medicine", "PT": "PET",
    "XA": "angiography", "RF": "fluoroscopy", "IO": "intra-oral radiography", "PX": "panoramic radiography",
    "SC": "a secondary capture", "OT": "another one", "SR": "a report", "SEG": "a segmentation",
}  # fmt: skip
_CHESTS = {"CHEST", "THORAX", "LUNG", "LUNGS", "TORAX", "POUMON"}
_FRONTAL = {"PA", "AP", "FRONTAL"}
_LATERAL = {"LL", "RL", "LAT", "LATERAL", "LLAT", "RLAT", "L LAT", "R LAT", "ML", "LM"}
_OBLIQUE = {"RLO", "LLO", "LAO", "RAO", "LPO", "RPO", "OBL", "OBLIQUE"}
_DECUBITUS = {"LLD", "RLD"}
# CID 4010 (PS3.16) by its SNOMED CT code and the earlier SRT code.
_FRONTAL_CODES = {"399348003", "R-10206", "272479007", "R-10214", "R-40888", "399033003", "R-10202"}
_LATERAL_CODES = {
    "399067008", "R-102CD", "399173006", "R-10236", "399198007", "R-10232", "399352003", "R-10228",
    "399260004", "R-10224", "30730003", "G-A145",
}  # fmt: skip


@dataclass(slots=True)
class Findings:
    """What is to be said of a file.

    Args:
        refusals: why it is not read; with `any_view` these are warnings.
        warnings: why it may not be a radiograph like others.
    """

    refusals: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)


def check_elements(elements: Elements) -> Findings:
    """What modality, body part, view and purpose mean for the reading of a file."""
    found = Findings()
    _check_modality(elements.text(MODALITY), found)
    _check_body_part(elements.text(BODY_PART), found)
    _check_view(elements, found)
    if elements.text(INTENT) == "FOR PROCESSING":
        found.refusals.append("it is raw data of the detector (FOR PROCESSING), not an image for presentation")
    if elements.text(BURNED_IN) == "YES":
        found.warnings.append("text is burned into its pixels, possibly of the patient: do not share the image")
    return found


def _check_modality(modality: str, found: Findings) -> None:
    if not modality:
        found.warnings.append("its modality is not stated")
    elif modality not in _RADIOGRAPHS:
        named = f", but {_MODALITIES[modality]}" if modality in _MODALITIES else ""
        found.refusals.append(f"its modality is not CR or DX{named}")


def _check_body_part(part: str, found: Findings) -> None:
    if part and not any(chest in part for chest in _CHESTS):
        found.refusals.append("its body part is not the chest")


def _check_view(elements: Elements, found: Findings) -> None:
    position = elements.text(VIEW_POSITION)
    code = elements.items[VIEW_CODES].text(CODE_VALUE) if VIEW_CODES in elements.items else ""
    directions = elements.texts(PATIENT_ORIENTATION)
    if position in _LATERAL or code in _LATERAL_CODES:
        found.refusals.append("its view is lateral")
    elif position in _OBLIQUE:
        found.refusals.append("its view is oblique")
    elif position in _DECUBITUS:
        found.refusals.append("the patient lies on one side (decubitus)")
    elif position not in _FRONTAL and code not in _FRONTAL_CODES:
        if directions and directions[0][:1] in ("A", "P"):  # along a row from front to back, or the reverse
            found.refusals.append("its view is lateral by the orientation of the patient")
        else:
            found.warnings.append("its view is not stated as PA or AP")
    if len(directions) == 2 and (directions[0][:1] == "R" or directions[1][:1] == "H"):
        found.warnings.append("its pixels are mirrored or upside down by the orientation of the patient")
