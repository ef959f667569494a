"""``probabilities.npz`` of a run: what it predicted for validation and test, without names and patients."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, ValidationError

from chexvision.errors import ChexError
from chexvision.files.arrays import DAMAGED, read_arrays, write_arrays
from chexvision.files.json_files import first_problem
from chexvision.labels import LabelSpace
from chexvision.metrics.predictions import Predictions
from chexvision.metrics.records import Record

_ABOUT = "about"
_LARGEST = 256 * 2**20  # bytes; the release's validation and test images take 2 MB

_Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


class _About(Record):
    """The JSON in the array "about"."""

    format: Literal[1] = 1
    dataset_identity: str
    label_space: LabelSpace
    images_sha256: Annotated[dict[str, _Sha256], Field(min_length=1)]


@dataclass(frozen=True, slots=True)
class Probabilities:
    """Raw probabilities of the best weights: not calibrated, without test-time augmentation.

    Args:
        dataset_identity: of the shards; see `chexvision.data.source.ShardSource`.
        label_space: names the columns.
        images_sha256: by split, of the images' names; see `chexvision.metrics.predictions.images_sha256`.
        by_split: float32[N, K + 1] in [0, 1] for "validation" and, where there is one, "test": the findings, then
            normal/abnormal, in the order of the images' names, so that `images_sha256` shows whose they are.
    """

    dataset_identity: str
    label_space: LabelSpace
    images_sha256: dict[str, str]
    by_split: Mapping[str, NDArray[np.float32]]

    @classmethod
    def of(
        cls, dataset_identity: str, label_space: LabelSpace, predictions: Mapping[str, Predictions]
    ) -> Probabilities:
        """Of predictions by split."""
        return cls(
            dataset_identity,
            label_space,
            {name: of.images_sha256 for name, of in predictions.items()},
            {
                name: of.probabilities[np.argsort(of.filenames, kind="stable")].astype(np.float32)
                for name, of in predictions.items()
            },
        )

    def write(self, path: Path) -> None:
        """Write the file; equal content gives equal bytes."""
        about = _About.model_validate(
            {
                "dataset_identity": self.dataset_identity,
                "label_space": self.label_space,
                "images_sha256": self.images_sha256,
            }
        )
        text = np.frombuffer(about.model_dump_json().encode(), np.uint8)
        write_arrays(path, **{_ABOUT: text}, **self.by_split)

    @classmethod
    def read(cls, path: Path) -> Probabilities:
        """The inverse of `write`; nothing is unpickled.

        Raises:
            ChexError: the file is damaged or something else.
        """
        try:
            arrays = read_arrays(path, _LARGEST)
            about = _About.model_validate_json(arrays.pop(_ABOUT).astype(np.uint8, casting="no").tobytes())
            _check(about, arrays)
        except ValidationError as error:
            raise ChexError(f"{path} does not hold a run's probabilities: {first_problem(error)}") from None
        except DAMAGED as error:
            detail = " ".join(str(error).split())[:200]
            raise ChexError(f"{path} does not hold a run's probabilities: {detail}") from None
        return cls(
            about.dataset_identity,
            about.label_space,
            about.images_sha256,
            arrays,
        )


def _check(about: _About, arrays: Mapping[str, NDArray[np.float32]]) -> None:
    """Raise ValueError unless the arrays are what `about` announces."""
    if not arrays.keys() == about.images_sha256.keys() <= {"validation", "test"}:
        raise ValueError(f"arrays {', '.join(sorted(arrays))} instead of {', '.join(sorted(about.images_sha256))}")
    outputs = len(about.label_space.outputs)
    for name, array in arrays.items():
        if array.dtype != np.float32 or array.ndim != 2 or array.shape[1] != outputs:
            raise ValueError(f"{name}: {array.dtype}{list(array.shape)}, expected float32[N, {outputs}]")
        if not ((array >= 0) & (array <= 1)).all():
            raise ValueError(f"{name}: a probability is not a number from 0 to 1")
