"""Which images a model was trained on, and how many of those it is measured on are among them."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from chexvision.artifact.metrics_file import Overlap
from chexvision.data.rows import Rows
from chexvision.data.source import ShardSource
from chexvision.errors import ChexError
from chexvision.files.arrays import DAMAGED, read_arrays, write_arrays
from chexvision.nih.patients import patient_of, release

_LARGEST = 16 * 2**20  # bytes; a million hashes take 8 MB


def notes_of(overlap: Overlap, use: str) -> list[str]:
    """What a reader must know of an overlap; `use` is what its images are for, such as "measured here"."""
    name, images = overlap.model, "images" if overlap.split == "all" else f"{overlap.split} images"
    if overlap.trained_images is None:
        return [f"{name} has no record of its training images; its training may have seen the {images} {use}"]
    if not overlap.trained_images and not overlap.trained_patients:
        return []
    return [
        f"{name} was trained on {overlap.trained_images:,} of the {overlap.images:,} {images} {use}, and on "
        f"some image of {overlap.trained_patients:,} of their {overlap.patients:,} patients"
    ]


@dataclass(frozen=True, slots=True)
class TrainingImages:
    """The images and patients that a model was trained on, each as 64 bits of a hash.

    The hash of an image is of its file name: it stays when the image is reduced or encoded in another way. A patient
    of NIH ChestX-ray14 is known by the file names, too. Other data sets number their own patients from 1, and
    synthetic images share the names of radiographs and of each other: those hashes are of the data set as well.

    Args:
        images: uint64[N], sorted.
        patients: uint64[M], sorted.
    """

    images: NDArray[np.uint64]
    patients: NDArray[np.uint64]

    @classmethod
    def of(cls, rows: Rows, source: ShardSource) -> TrainingImages:
        """Of the rows that a model is trained on."""
        return cls(np.unique(_image_hashes(rows, source)), np.unique(_patient_hashes(rows, source)))

    def overlap(self, model: str, split: str, rows: Rows, source: ShardSource) -> Overlap:
        """How many of `rows`, and of their patients, are among these."""
        patients = _patient_hashes(rows, source)
        seen = np.isin(_image_hashes(rows, source), self.images)
        return Overlap(
            model=model,
            split=split,
            images=len(rows),
            patients=len(np.unique(patients)),
            trained_images=int(seen.sum()),
            trained_patients=len(np.unique(patients[seen | np.isin(patients, self.patients)])),
        )

    def write(self, path: Path) -> None:
        """Write both arrays to an ``.npz`` file; equal arrays give equal bytes."""
        write_arrays(path, images=self.images, patients=self.patients)

    @classmethod
    def read(cls, path: Path) -> TrainingImages:
        """The inverse of `write`.

        Raises:
            ChexError: the file is something else.
        """
        try:
            arrays = read_arrays(path, _LARGEST)
            found = cls(arrays["images"], arrays["patients"])
            for name, array in (("images", found.images), ("patients", found.patients)):
                if array.dtype != np.uint64 or array.ndim != 1:
                    raise ValueError(f"{name}: expected uint64[N]")
        except DAMAGED as error:
            raise ChexError(f"{path} does not list training images: {' '.join(str(error).split())[:200]}") from None
        return found

    @classmethod
    def union(cls, parts: Sequence[TrainingImages]) -> TrainingImages:
        """All images and patients of several models."""
        return cls(
            np.unique(np.concatenate([part.images for part in parts])),
            np.unique(np.concatenate([part.patients for part in parts])),
        )


def _image_hashes(rows: Rows, source: ShardSource) -> NDArray[np.uint64]:
    scope = f"{source.identity} " if source.synthetic else ""
    return _hashes(f"{scope}image {Path(name).stem}" for name in rows.filenames.tolist())


def _patient_hashes(rows: Rows, source: ShardSource) -> NDArray[np.uint64]:
    known = release()

    def text(name: str, number: int) -> str:
        if source.synthetic or not known.has_image(name):
            return f"{source.identity} patient {number}"
        return f"patient {patient_of(name)}"

    return _hashes(map(text, rows.filenames.tolist(), rows.patients.tolist()))


def _hashes(texts: Iterable[str]) -> NDArray[np.uint64]:
    digests = [hashlib.blake2b(text.encode(), digest_size=8).digest() for text in texts]
    return np.frombuffer(b"".join(digests), ">u8").astype(np.uint64)
