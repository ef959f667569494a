"""The terms of the sets that label maps describe: whoever reads a set with its map has images of the set."""

from __future__ import annotations

from chexvision.label_maps.label_map import LabelMap
from chexvision.releases.chexpert import CHEXPERT_TERMS
from chexvision.releases.mimic import MIMIC_TERMS
from chexvision.releases.padchest import PADCHEST_TERMS
from chexvision.releases.terms import Terms
from chexvision.releases.vindr import VINDR_TERMS

# By the name in the included map.
_TERMS = {
    "CheXpert": CHEXPERT_TERMS,
    "MIMIC-CXR-JPG": MIMIC_TERMS,
    "PadChest": PADCHEST_TERMS,
    "VinDr-CXR": VINDR_TERMS,
}


def terms_of_map(label_map: LabelMap) -> Terms | None:
    """The terms of the credentialed set that an included map, or a copy that kept its name, is of; None of others."""
    return _TERMS.get(label_map.name)
