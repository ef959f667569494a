"""The NIH release by patient: its image files and its two public splits. No pixels, no labels.

``release.xz`` next to this module contains the compressed output of `pack` for the release's metadata and the public
lists. The files of patient p are numbered from ``{p:08d}_000.png`` without gaps, so their number identifies them.
Needs the standard library only: the laptop side uses it too.
"""

from __future__ import annotations

import hashlib
import lzma
import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path

from chexvision.errors import ChexError

SPLITS = ("train", "validation", "test")
PATIENTS = 30_805  # numbered from 1 without gaps
_FILE = "release.xz"
_SHA256 = "4e23c9a7c656b6bdd26b05ddbfe38253ed51d4b076592bfbc3f17001fb28e433"  # of the output of `pack`
_OFFICIAL_TEST = 4  # the flags of a patient: this bit, and the index in SPLITS of the chexnet split
_NAME = re.compile(r"^(\d{8})_(\d{3})\.[A-Za-z]+$", re.ASCII)


@dataclass(frozen=True)
class Release:
    """The release's patients; patient p is at index p - 1.

    Args:
        images: number of images of each patient.
        flags: the public splits of each patient.
    """

    images: bytes
    flags: bytes

    def has_image(self, filename: str) -> bool:
        """Whether the release has an image of this name with any suffix."""
        match = _NAME.match(filename)
        if match is None:
            return False
        patient, visit = int(match[1]), int(match[2])
        return 1 <= patient <= PATIENTS and visit < self.images[patient - 1]

    def filenames(self, patients: Collection[int]) -> Iterator[str]:
        """The image files of these patients, sorted."""
        for patient in sorted(patients):
            yield from (f"{patient:08d}_{visit:03d}.png" for visit in range(self.images[patient - 1]))

    def count(self, split_of_patient: Mapping[int, str]) -> dict[str, int]:
        """The number of images of each split."""
        counts = dict.fromkeys(SPLITS, 0)
        for patient, split in split_of_patient.items():
            counts[split] += self.images[patient - 1]
        return counts

    @cached_property
    def official_test(self) -> frozenset[int]:
        """The patients of the release's test_list.txt; all others are in train_val_list.txt."""
        return frozenset(patient for patient, flags in enumerate(self.flags, 1) if flags & _OFFICIAL_TEST)

    @cached_property
    def chexnet(self) -> dict[int, str]:
        """The 70/10/20 split that the public reproductions of CheXNet share."""
        return {patient: SPLITS[flags & ~_OFFICIAL_TEST] for patient, flags in enumerate(self.flags, 1)}


def pack(images: Mapping[int, int], official_test: Collection[int], chexnet: Mapping[int, str]) -> bytes:
    """The content of ``release.xz`` before ``lzma.compress(packed, preset=9)``.

    Args:
        images: number of images of each patient, for patients 1 to 30,805.
        official_test: patients of the release's test list.
        chexnet: split of each patient.
    """
    patients = range(1, PATIENTS + 1)
    test = frozenset(official_test)
    flags = (SPLITS.index(chexnet[patient]) | (_OFFICIAL_TEST if patient in test else 0) for patient in patients)
    return bytes(images[patient] for patient in patients) + bytes(flags)


@cache
def release() -> Release:
    """The release, read from the package's file.

    Raises:
        ChexError: the package's file is missing or damaged.
    """
    path = Path(__file__).with_name(_FILE)
    try:
        packed = lzma.decompress(path.read_bytes())
    except (OSError, lzma.LZMAError) as error:
        raise ChexError(f"{path} cannot be read ({error}); reinstall chexvision") from None
    if hashlib.sha256(packed).hexdigest() != _SHA256:
        raise ChexError(f"{path} is not the file of this version; reinstall chexvision")
    return Release(packed[:PATIENTS], packed[PATIENTS:])


def patient_of(filename: str) -> int:
    """The patient's number: the first 8 digits of a file name of the release, ``00000013_008.png`` → 13.

    Raises:
        ValueError: the name does not start with 8 digits.
    """
    digits = filename.rpartition("/")[2][:8]
    if len(digits) != 8 or not (digits.isascii() and digits.isdigit()):
        raise ValueError(f"file name {filename!r} does not start with a patient's 8 digits")
    return int(digits)
