"""Whether an image is like those that a model was trained on.

Each test gives a number that is larger the less an image is like the validation images. Limits are chosen so that the
tests together flag about 1 % of these (`chexvision.predict.fit_check`). `InputCheck.measure` computes in numpy what
exported models compute in their graph.

The distance is that of Lee et al., "A Simple Unified Framework for Detecting Out-of-Distribution Samples and
Adversarial Attacks", NeurIPS 2018, under one Gaussian of all classes, because an image may have several findings. Its
covariance is that of probabilistic PCA (Tipping and Bishop, JRSS B 1999): some directions with a variance each, and
one variance for all others. Features are divided by their norm first: Mueller and Hein, "Mahalanobis++: Improving OOD
Detection via Feature Normalization", ICML 2025.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, ValidationError

from chexvision.errors import ChexError
from chexvision.files.arrays import DAMAGED, read_arrays, write_arrays
from chexvision.files.json_files import first_problem
from chexvision.images.radiograph import Grey
from chexvision.metrics.ranking import Floats
from chexvision.metrics.records import Record

FILE = "input_check.npz"

THUMBNAIL_SIDE = 16
_PIXELS = THUMBNAIL_SIDE**2
SMALLEST_NORM = 1e-6  # of features, root mean square
SMALLEST_DEVIATION = 1.0  # of a thumbnail, in gray levels: what is nearly constant has no layout

MOST_DIRECTIONS = 64
_MOST_CHANNELS = 2**16
_LARGEST = 2**26  # bytes of the file; 64 directions of 2,048 features take 0.5 MB
_ABOUT = "about"

TestName = Literal["features", "thumbnail", "contrast", "inverted"]

MESSAGES: dict[TestName, str] = {
    "features": "the network's features are unlike those of the radiographs that the model was validated on",
    "thumbnail": "bright and dark regions are not where they are in an upright frontal radiograph of the whole chest",
    "contrast": "the image is nearly uniform",
    "inverted": "bright and dark regions are exchanged; it may be an inverted radiograph",
}


@dataclass(frozen=True, slots=True)
class CheckTest:
    """One test of the input check.

    Args:
        name: for instance "features".
        limit: images above it are flagged.
        message: what a reader is told then, in words.
    """

    name: TestName
    limit: float
    message: str


@dataclass(frozen=True, slots=True)
class Gaussian:
    """A distribution of vectors of k values, and the distance from it.

    Args:
        mean: float32[k].
        basis: float32[D, k], orthonormal rows.
        variances: float32[D], along the rows.
        rest: float32[1], the variance along every direction that is orthogonal to them.
    """

    mean: NDArray[np.float32]
    basis: NDArray[np.float32]
    variances: NDArray[np.float32]
    rest: NDArray[np.float32]

    def distance(self, vectors: Floats) -> Floats:
        """float64[B] of float64[B, k]: the root of the mean squared deviation, in standard deviations."""
        centered = vectors - self.mean
        along = centered @ self.basis.T.astype(np.float64)
        orthogonal = np.square(centered).sum(axis=1) - np.square(along).sum(axis=1)
        total = np.square(along) @ (1 / self.variances.astype(np.float64)) + np.maximum(orthogonal, 0) / self.rest
        distance: Floats = np.sqrt(total / len(self.mean))
        return distance

    def arrays(self, prefix: str) -> dict[str, NDArray[np.float32]]:
        """Its arrays by name."""
        return {f"{prefix}_{name}": getattr(self, name) for name in self.__slots__}

    @classmethod
    def of(cls, arrays: Mapping[str, NDArray[np.float32]], prefix: str) -> Gaussian:
        """The inverse of `arrays`; raises KeyError or ValueError for anything else."""
        found = cls(**{name: arrays[f"{prefix}_{name}"] for name in cls.__slots__})
        channels, directions = found.mean.size, found.variances.size
        shapes = ((channels,), (directions, channels), (directions,), (1,))
        if not (1 <= directions <= min(MOST_DIRECTIONS, channels) and channels <= _MOST_CHANNELS):
            raise ValueError(f"{prefix}: {directions} directions of {channels} values")
        for name, shape in zip(cls.__slots__, shapes, strict=True):
            array = getattr(found, name)
            if array.dtype != np.float32 or array.shape != shape or not np.isfinite(array).all():
                raise ValueError(f"{prefix}_{name}: expected finite float32{list(shape)}")
        if not ((found.variances > 0).all() and (found.rest > 0).all()):
            raise ValueError(f"{prefix}: a variance is not positive")
        return found


class _About(Record):
    """The JSON in the array "about"."""

    format: Literal[1] = 1
    images: Annotated[int, Field(ge=1)]
    patients: Annotated[int, Field(ge=1)]
    flagged: Annotated[int, Field(ge=0)]
    limits: dict[TestName, Annotated[float, Field(allow_inf_nan=False)]]


@dataclass(frozen=True, slots=True)
class InputCheck:
    """The tests that a model was published with, in the order of `Outputs.checks`.

    Args:
        tests: features, thumbnail, contrast, inverted.
        features: of `normalized_features`.
        thumbnail: of `standardized`.
        images: of validation, that it was fitted on.
        patients: theirs.
        flagged: how many of these images it flags, each measured by distributions of other patients.
    """

    tests: tuple[CheckTest, ...]
    features: Gaussian
    thumbnail: Gaussian
    images: int
    patients: int
    flagged: int

    def measure(self, images: Sequence[Grey] | NDArray[np.uint8], features: NDArray[np.float32]) -> Floats:
        """How unlike the validation images these are.

        Args:
            images: uint8[S, S] each, as the network takes them, equalized; see `Preprocessing.apply`.
            features: float[B, C] of them; see `CheXVision.features`.

        Returns:
            float64[B, 4] in the order of `tests`.

        Raises:
            ChexError: the check is of a network with other features.
        """
        if features.shape[1] != len(self.features.mean):
            raise ChexError(
                f"{FILE} is of a network with {len(self.features.mean)} features, not {features.shape[1]}: it "
                "belongs to another model"
            )
        small = thumbnails(images)
        distances = (
            self.features.distance(normalized_features(features)),
            self.thumbnail.distance(standardized(small)[0]),
        )
        return np.column_stack([*distances, layout_tests(small, self.thumbnail.mean)])

    def warnings(self, values: Floats) -> tuple[str, ...]:
        """The messages of the tests whose limit float64[T] exceed."""
        return tuple(test.message for test, value in zip(self.tests, values, strict=True) if value > test.limit)

    def flags(self, values: Floats) -> NDArray[np.bool_]:
        """bool[B]: which images float64[B, T] flag."""
        flagged: NDArray[np.bool_] = np.any(values > [test.limit for test in self.tests], axis=1)
        return flagged

    def write(self, path: Path) -> None:
        """Write the file; equal content gives equal bytes."""
        about = _About(
            images=self.images,
            patients=self.patients,
            flagged=self.flagged,
            limits={test.name: test.limit for test in self.tests},
        )
        text = np.frombuffer(about.model_dump_json().encode(), np.uint8)
        arrays = {**self.features.arrays("features"), **self.thumbnail.arrays("thumbnail")}
        write_arrays(path, **{_ABOUT: text}, **arrays)

    @classmethod
    def read(cls, path: Path) -> InputCheck:
        """Read ``input_check.npz``, which may be untrusted.

        Raises:
            ChexError: it is damaged or something else.
        """
        try:
            arrays = read_arrays(path, _LARGEST)
            about = _About.model_validate_json(arrays.pop(_ABOUT).astype(np.uint8, casting="no").tobytes())
            features, thumbnail = Gaussian.of(arrays, "features"), Gaussian.of(arrays, "thumbnail")
            if len(thumbnail.mean) != _PIXELS or about.limits.keys() != MESSAGES.keys():
                raise ValueError("its thumbnail or its tests are others")
        except ValidationError as error:
            raise ChexError(f"{path} is not an input check: {first_problem(error)}") from None
        except DAMAGED as error:
            raise ChexError(f"{path} is not an input check: {' '.join(str(error).split())[:200]}") from None
        return cls(tests_of(about.limits), features, thumbnail, about.images, about.patients, about.flagged)


def tests_of(limits: Mapping[TestName, float]) -> tuple[CheckTest, ...]:
    """The tests in their order, with these limits."""
    return tuple(CheckTest(name, limits[name], message) for name, message in MESSAGES.items())


def normalized_features(features: NDArray[np.floating]) -> Floats:
    """float64[B, C] whose rows have a root mean square of 1."""
    wide = features.astype(np.float64)
    norm = np.sqrt(np.square(wide).mean(axis=1, keepdims=True))
    normalized: Floats = wide / np.maximum(norm, SMALLEST_NORM)
    return normalized


def thumbnails(images: Sequence[Grey] | NDArray[np.uint8]) -> Floats:
    """float64[B, 256], row by row, of images uint8[S, S], averaged by area."""
    weights = thumbnail_weights(images[0].shape[0])
    small: Floats = weights @ np.asarray(images, np.float64) @ weights.T
    return small.reshape(len(small), _PIXELS)


def thumbnail_weights(side: int) -> Floats:
    """float64[16, side]: the share of each of `side` pixels in each pixel of a thumbnail; rows sum to 1."""
    edges = np.arange(THUMBNAIL_SIDE + 1) * side / THUMBNAIL_SIDE
    first, last = edges[:-1, None], edges[1:, None]
    pixels = np.arange(side)
    covered: Floats = np.clip(np.minimum(last, pixels + 1) - np.maximum(first, pixels), 0, None)
    return covered / (side / THUMBNAIL_SIDE)


def standardized(small: Floats) -> tuple[Floats, Floats]:
    """Thumbnails with mean 0 and deviation 1, float64[B, 256], and the deviations that they had, float64[B]."""
    centered = small - small.mean(axis=1, keepdims=True)
    deviation: Floats = centered.std(axis=1)
    return centered / np.maximum(deviation, SMALLEST_DEVIATION)[:, None], deviation


def layout_tests(small: Floats, mean: Floats | NDArray[np.float32]) -> Floats:
    """The values of "contrast" and "inverted", float64[B, 2], of `thumbnails` and the mean of standardized ones."""
    layout, deviation = standardized(small)
    return np.column_stack([-deviation, -(layout @ mean) / _PIXELS])
