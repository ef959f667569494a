"""ChestMNIST: NIH ChestX-ray14 at 28, 64, 128 or 224 pixels in one ``.npz`` file, of the MedMNIST collection."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from chexvision.errors import UsageError
from chexvision.files.arrays import DAMAGED
from chexvision.images.npz_images import BadArray, ImageArray, array_names, described, read_small_array
from chexvision.images.sources import Found, Index
from chexvision.labels import NIH
from chexvision.nih.metadata import Entry
from chexvision.releases.release import Reading, Release
from chexvision.releases.terms import Terms

CHESTMNIST_TERMS = Terms(
    title="ChestMNIST",
    homepage="https://medmnist.com",
    license="cc-by-4.0",
    license_name=None,
    license_link="https://creativecommons.org/licenses/by/4.0/",
    credentialed=False,
    citation=(
        "Jiancheng Yang, Rui Shi, Donglai Wei, et al. MedMNIST v2: A large-scale lightweight benchmark for 2D and 3D "
        "biomedical image classification. Scientific Data 10, 41 (2023). Images and labels of NIH ChestX-ray14: Wang "
        "et al., CVPR 2017."
    ),
)

_SPLITS = {"train": "train", "val": "validation", "test": "test"}
# The columns of its labels, medmnist/info.py: atelectasis, cardiomegaly, effusion, infiltration, mass, nodule,
# pneumonia, pneumothorax, consolidation, edema, emphysema, fibrosis, pleural, hernia. That is NIH's order.
_FINDINGS = NIH.findings
_FILES = "chestmnist.npz, chestmnist_64.npz, chestmnist_128.npz and chestmnist_224.npz"


def read_chestmnist(reading: Reading) -> Release:
    """Read ChestMNIST. It names no patients: every image is one of its own, and only its own split keeps them apart.

    Raises:
        UsageError: there is no such file, several, or it contains something else.
    """
    path = _find_file(list(reading.images))
    try:
        missing = {f"{split}_{kind}" for split in _SPLITS for kind in ("images", "labels")} - {*array_names(path)}
        if missing:
            raise BadArray(f"it has no array {min(missing)!r}")
        labels = {split: _read_labels(path, split) for split in _SPLITS}
        arrays = {split: ImageArray(path, f"{split}_images") for split in _SPLITS}
        stamps = {split: arrays[split].stamp for split in _SPLITS}
        sides = {_side(arrays[split], len(labels[split])) for split in _SPLITS}
        if len(sides) > 1:
            raise BadArray(f"its splits have images of different sizes: {', '.join(map(str, sorted(sides)))} pixels")
    except BadArray as error:
        raise UsageError(f"{path} is not ChestMNIST: {error}; its files are {_FILES}") from None
    except DAMAGED as error:
        raise UsageError(f"{path} is not a readable .npz file: {getattr(error, 'strerror', None) or error}") from None
    side = sides.pop()
    if reading.size is not None and reading.size > side:
        raise UsageError(
            f"{path} has images of {side}×{side} pixels, which --size {reading.size} would only enlarge; add "
            f"--size {side}, or fetch a larger one of {_FILES}"
        )
    images: list[Found] = []
    entries: dict[str, Entry] = {}
    splits: dict[int, str] = {}
    for split, name in sorted(_SPLITS.items()):  # by file name, so that nothing waits for its turn on the disk
        for row, values in enumerate(labels[split]):
            found = Found(f"chestmnist_{split}_{row:06d}.png", arrays[split], str(row), stamps[split])
            patient = len(images) + 1
            images.append(found)
            entries[found.name] = _entry(values, patient)
            splits[patient] = name
    return Release(
        space=NIH,
        index=Index(tuple(images), ()),
        entries=entries,
        tables=(path,),
        splits=splits,
        split_tables=(path,),
        numbered=True,
        knows_patients=False,
    )


def _find_file(places: list[Path]) -> Path:
    found = [
        path for place in places for path in (sorted(place.glob("chestmnist*.npz")) if place.is_dir() else [place])
    ]
    if len(found) == 1 and found[0].suffix == ".npz" and found[0].exists():
        return found[0]
    listed = ", ".join(map(str, places)) or "nothing"
    several = f"{len(found)} files" if len(found) > 1 else "no file chestmnist*.npz"
    raise UsageError(f"{several} in --images {listed}; name one of {_FILES}")


def _read_labels(path: Path, split: str) -> NDArray[np.generic]:
    labels = read_small_array(path, f"{split}_labels")
    if labels.dtype.kind not in "bui" or labels.ndim != 2 or labels.shape[1] != len(_FINDINGS) or not len(labels):
        raise BadArray(
            f"{split}_labels is {described(labels.shape, labels.dtype)}, expected integers [N, {len(_FINDINGS)}]"
        )
    if not np.isin(labels, (0, 1)).all():
        raise BadArray(f"{split}_labels has values other than 0 and 1")
    return labels


def _side(images: ImageArray, count: int) -> int:
    shape = images.shape
    if shape[0] != count or shape[1] != shape[2]:
        raise BadArray(f"{images.array} is {described(shape, np.dtype(np.uint8))}, expected [{count}, H, H]")
    return shape[1]


def _entry(values: NDArray[np.generic], patient: int) -> Entry:
    present = [name for name, value in zip(_FINDINGS, values, strict=True) if value]
    return Entry(
        labels=NIH.format(present),
        patient_id=patient,
        age=None,
        sex=None,
        view=None,
        follow_up=None,
        original_width=None,
        original_height=None,
    )
