"""The input check: what it flags, how many validation images it flags, and its file."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from chexvision.errors import ChexError
from chexvision.images.preprocessing import Preprocessing
from chexvision.images.radiograph import Grey, decode_grey, resize_area
from chexvision.predict.fit_check import FEWEST_IMAGES, fit_input_check, joint_limits
from chexvision.predict.input_check import (
    FILE,
    MESSAGES,
    Gaussian,
    InputCheck,
    standardized,
    thumbnail_weights,
    thumbnails,
)
from tests.predict.altered import KINDS, altered

SIDE = 64
_FILTERS = np.random.default_rng(11).normal(size=(12, 5, 5))


def prepared(images: list[Grey]) -> NDArray[np.uint8]:
    steps = Preprocessing(image_size=SIDE)
    return np.stack([steps.apply(image) for image in images])


def features_of(images: NDArray[np.uint8]) -> NDArray[np.float32]:
    """In place of a network: random filters, rectified, averaged over a 4×4 grid; float32[B, 192]."""
    filters = _FILTERS - _FILTERS.mean(axis=(1, 2), keepdims=True)

    def one(image: Grey) -> NDArray[np.float32]:
        maps = [np.maximum(cv2.filter2D(image.astype(np.float32), -1, kernel), 0) for kernel in filters]
        return np.concatenate([cv2.resize(of, (4, 4), interpolation=cv2.INTER_AREA).ravel() for of in maps])

    return np.stack([one(image) for image in images])


def measured(check: InputCheck, images: list[Grey]) -> NDArray[np.float64]:
    pixels = prepared(images)
    return check.measure(pixels, features_of(pixels))


def fitted(images: list[Grey], patients: NDArray[np.int64]) -> InputCheck:
    pixels = prepared(images)
    check = fit_input_check(features_of(pixels), thumbnails(pixels), patients)
    assert check is not None
    return check


@pytest.fixture(scope="module")
def radiographs(real_data: Path) -> tuple[list[Grey], NDArray[np.int64]]:
    """Real ones of 64², with their patients."""
    paths = sorted((real_data / "nih64").glob("*.png"))
    return [decode_grey(path.read_bytes()) for path in paths], np.array([int(path.name[:8]) for path in paths])


@pytest.fixture(scope="module")
def check(radiographs: tuple[list[Grey], NDArray[np.int64]]) -> InputCheck:
    """Fitted on the patients of even numbers."""
    images, patients = radiographs
    even = np.flatnonzero(patients % 2 == 0)
    return fitted([images[i] for i in even], patients[even])


@pytest.fixture(scope="module")
def held_out(radiographs: tuple[list[Grey], NDArray[np.int64]]) -> list[Grey]:
    images, patients = radiographs
    return [images[i] for i in np.flatnonzero(patients % 2 == 1)]


@pytest.mark.parametrize("kind", KINDS)
def test_images_that_are_not_frontal_radiographs_are_flagged(
    kind: str, check: InputCheck, held_out: list[Grey]
) -> None:
    flags = check.flags(measured(check, altered(kind, held_out[:80])))
    assert flags.mean() >= KINDS[kind]


def test_few_radiographs_of_other_patients_are_flagged(check: InputCheck, held_out: list[Grey]) -> None:
    assert check.flagged <= 0.02 * check.images
    assert check.flags(measured(check, held_out)).mean() <= 0.03


def test_radiographs_from_another_source_are_not_flagged(check: InputCheck, real_data: Path) -> None:
    images = [
        resize_area(decode_grey(path.read_bytes()), SIDE)
        for path in sorted((real_data / "nih-sample").rglob("*.png"))[:60]
    ]
    assert check.flags(measured(check, images)).mean() <= 0.05


def test_inverted_and_uniform_images_are_named(check: InputCheck, held_out: list[Grey]) -> None:
    inverted = [check.warnings(row) for row in measured(check, altered("inverted", held_out[:40]))]
    assert sum(MESSAGES["inverted"] in found for found in inverted) >= 36
    for kind in ("black", "white", "gray"):
        for row in measured(check, altered(kind, held_out[:10])):
            found = check.warnings(row)
            assert MESSAGES["contrast"] in found and MESSAGES["inverted"] not in found
    assert sum(map(len, map(check.warnings, measured(check, held_out[:100])))) <= 6


@pytest.mark.parametrize(("images", "tolerance"), [(150, 0.01), (1000, 0.004), (20_000, 0.002)])
def test_all_tests_together_flag_one_image_in_a_hundred(images: int, tolerance: float) -> None:
    rng = np.random.default_rng(2)

    def values(count: int) -> NDArray[np.float64]:
        """Of three tests, two of which agree in part; one has larger values than others and a heavier tail."""
        normal = rng.normal(size=(count, 3))
        return np.column_stack([normal[:, 0], normal[:, 0] + normal[:, 1], 40 * rng.gamma(3, size=count)])

    shares = [(values(4000) > joint_limits(values(images))).any(axis=1).mean() for _ in range(12)]
    assert np.mean(shares) == pytest.approx(0.01, abs=tolerance)


def test_odd_validation_images_do_not_raise_the_limits() -> None:
    values = np.random.default_rng(3).normal(size=(1000, 3))
    odd = values.copy()
    odd[:5] = 1000
    assert (joint_limits(odd) < joint_limits(values) + 0.6).all()


def test_limits_are_chosen_on_patients_that_the_distributions_were_not_fitted_on() -> None:
    # 200 features of 100 images: every image lies in the span of a distribution that was fitted on it.
    rng = np.random.default_rng(0)
    features, small = rng.normal(size=(600, 200)), rng.normal(100, 30, size=(600, 256))
    known = fit_input_check(features[:100].astype(np.float32), small[:100], np.arange(100))
    assert known is not None
    layouts, _ = standardized(small)
    assert (known.thumbnail.distance(layouts[100:]) > known.tests[1].limit).mean() <= 0.05
    assert known.thumbnail.distance(layouts[:100]).max() < known.tests[1].limit


def test_too_few_images_or_patients_give_no_check() -> None:
    rng = np.random.default_rng(0)
    features, small = rng.normal(size=(60, 8)).astype(np.float32), rng.normal(100, 30, size=(60, 256))
    assert fit_input_check(features, small, np.arange(60)) is not None
    fewer = FEWEST_IMAGES - 1
    assert fit_input_check(features[:fewer], small[:fewer], np.arange(fewer)) is None
    assert fit_input_check(features, small, np.arange(60) % 9) is None


def test_constant_features_give_a_check_that_flags_none_of_them() -> None:
    small = np.random.default_rng(0).normal(100, 30, size=(60, 256))
    check = fit_input_check(np.ones((60, 8), np.float32), small, np.arange(60))
    assert check is not None
    assert not (check.features.distance(np.ones((1, 8))) > check.tests[0].limit).any()


@pytest.mark.parametrize("side", [8, 16, 50, 64, 299, 320])
def test_thumbnails_are_averages_by_area(side: int) -> None:
    image = np.random.default_rng(side).integers(0, 256, (side, side)).astype(np.uint8)
    assert thumbnail_weights(side).sum(axis=1) == pytest.approx(1)
    found = thumbnails([image])[0].reshape(16, 16)
    large = np.repeat(np.repeat(image.astype(np.float64), 16, 0), 16, 1)  # each pixel as 16² of a sixteenth
    assert found == pytest.approx(large.reshape(16, side, 16, side).mean(axis=(1, 3)))


def test_features_of_another_network_are_refused(check: InputCheck, held_out: list[Grey]) -> None:
    with pytest.raises(ChexError, match="with 192 features, not 7: it belongs to another model"):
        check.measure(prepared(held_out[:1]), np.zeros((1, 7), np.float32))


@pytest.fixture(scope="module")
def small_check() -> InputCheck:
    rng = np.random.default_rng(0)
    found = fit_input_check(
        rng.normal(size=(80, 12)).astype(np.float32), rng.normal(100, 30, size=(80, 256)), np.arange(80)
    )
    assert found is not None
    return found


def test_the_file_is_read_as_it_was_written_and_equal_content_gives_equal_bytes(
    small_check: InputCheck, tmp_path: Path
) -> None:
    small_check.write(tmp_path / FILE)
    again = InputCheck.read(tmp_path / FILE)
    again.write(tmp_path / "again.npz")
    assert (tmp_path / FILE).read_bytes() == (tmp_path / "again.npz").read_bytes()
    assert (again.tests, again.images, again.patients, again.flagged) == (
        small_check.tests, 80, 80, small_check.flagged,
    )  # fmt: skip
    image, features = np.arange(1024).reshape(1, 32, 32).astype(np.uint8), np.ones((1, 12), np.float32)
    assert (again.measure(image, features) == small_check.measure(image, features)).all()


Arrays = dict[str, NDArray[Any]]


def _about(arrays: Arrays, **changes: object) -> None:
    about = json.loads(arrays["about"].tobytes()) | changes
    arrays["about"] = np.frombuffer(json.dumps(about).encode(), np.uint8)


def _set(name: str, change: Callable[[NDArray[Any]], NDArray[Any]]) -> Callable[[Arrays], None]:
    return lambda arrays: arrays.update({name: change(arrays[name])})


DAMAGES: dict[str, Callable[[Arrays], object]] = {
    "no array of the variances": lambda arrays: arrays.pop("features_variances"),
    "no text": lambda arrays: arrays.pop("about"),
    "a later format": lambda arrays: _about(arrays, format=2),
    "one limit too few": lambda arrays: _about(arrays, limits={"features": 1.0}),
    "a limit that is not a number": lambda arrays: _about(arrays, limits={name: float("nan") for name in MESSAGES}),
    "a test of another name": lambda arrays: _about(arrays, limits=dict.fromkeys((*MESSAGES, "size"), 1.0)),
    "a mean that is not finite": _set("features_mean", lambda array: array + np.float32(np.inf)),
    "a basis of other vectors": _set("features_basis", lambda array: array[:, 1:]),
    "double precision": _set("thumbnail_mean", lambda array: array.astype(np.float64)),
    "a variance of zero": _set("thumbnail_variances", lambda array: 0 * array),
    "two variances of the rest": _set("features_rest", lambda array: np.repeat(array, 2)),
    "a variance of the rest below zero": _set("features_rest", lambda array: -array),
    "another thumbnail": lambda arrays: [
        arrays.update({f"thumbnail_{name}": arrays[f"features_{name}"]}) for name in Gaussian.__slots__
    ],
    "an object": lambda arrays: arrays.update(features_mean=np.array([{}], object)),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_other_files_are_refused(damage: str, small_check: InputCheck, tmp_path: Path) -> None:
    path = tmp_path / FILE
    small_check.write(path)
    with np.load(path) as file:
        arrays = dict(file)
    DAMAGES[damage](arrays)
    np.savez(path, **arrays)
    with pytest.raises(ChexError, match=r"input_check\.npz is not an input check: .") as error:
        InputCheck.read(path)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("data", [b"", b"PK\x03\x04", b"\x93NUMPY\x01\x00", b"{}"])
def test_bytes_that_are_no_archive_are_refused(data: bytes, tmp_path: Path) -> None:
    (tmp_path / FILE).write_bytes(data)
    with pytest.raises(ChexError, match="is not an input check"):
        InputCheck.read(tmp_path / FILE)


def test_a_higher_limit_warns_of_less(check: InputCheck, held_out: list[Grey]) -> None:
    values = measured(check, altered("noise", held_out[:5]))
    lenient = replace(check, tests=tuple(replace(test, limit=1e9) for test in check.tests))
    assert check.flags(values).all() and not lenient.flags(values).any()
    assert all(map(check.warnings, values)) and not any(map(lenient.warnings, values))
