"""DICOM files as 8-bit gray: the chain of transformations, the encodings, and what is refused."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from pydicom import Dataset, Sequence
from pydicom.uid import (
    RLELossless,
)

from chexvision.errors import UsageError
from chexvision.images.reading import as_radiograph, read_radiograph
from tests.images.dicoms import FULL, GREY, data_of, dataset, dicom, lut, same, windowed

RAMP = np.arange(4096, dtype=np.uint16).reshape(64, 64)


def test_8_bit_values_stay_as_they_are() -> None:
    found = read_radiograph(dicom(GREY, bits=8))
    assert same(found)
    assert found.notes == ("DICOM", "8-bit values", "all 256 values")


@pytest.mark.parametrize("inverted", [False, True])
def test_a_windowed_12_bit_image_has_the_pixels_of_its_8_bit_original(inverted: bool) -> None:
    found = read_radiograph(windowed(GREY, inverted=inverted))
    assert same(found)
    assert ("inverted, as the file asks for" in found.notes) == inverted


@pytest.mark.parametrize("bits", [10, 12, 14, 16])
def test_depths(bits: int) -> None:
    top = (1 << bits) - 1
    values = np.round(GREY * (top / 255)).astype(np.uint16)
    assert same(read_radiograph(dicom(values, bits=bits, WindowCenter=top / 2 + 0.5, WindowWidth=top + 1)))


def test_signed_values() -> None:
    values = np.round(GREY.astype(np.float64) * 4095 / 255).astype(np.int16) - 2048
    found = read_radiograph(dicom(values, signed=True, WindowCenter=0, WindowWidth=4096))
    assert same(found)


def test_values_in_higher_bits_than_the_lowest() -> None:
    values = np.round(GREY.astype(np.float64) * 4095 / 255).astype(np.uint16) << 4
    values |= 0xF  # what an old overlay leaves there
    assert same(read_radiograph(dicom(values, HighBit=15, **FULL)))


def test_presentation_lut_shape_inverse_inverts_and_never_twice() -> None:
    upright = read_radiograph(windowed(GREY)).pixels
    for kind in ("MONOCHROME1", "MONOCHROME2"):
        found = read_radiograph(windowed(GREY, PhotometricInterpretation=kind, PresentationLUTShape="INVERSE"))
        assert np.array_equal(found.pixels, 255 - upright)


def ramp(**changed: Any) -> NDArray[np.uint8]:
    """What a file makes of all 12-bit values."""
    return read_radiograph(dicom(RAMP, **changed)).pixels.reshape(-1)


def test_window_functions() -> None:
    x = np.arange(4096.0)
    linear = np.clip((x - 999.5) / 499 + 0.5, 0, 1)  # PS3.3, C.11.2.1.2
    exact = np.clip((x - 1000) / 500 + 0.5, 0, 1)
    sigmoid = 1 / (1 + np.exp(-4 * (x - 1000) / 500))
    for function, expected in (("LINEAR", linear), ("LINEAR_EXACT", exact), ("SIGMOID", sigmoid)):
        found = ramp(WindowCenter=1000, WindowWidth=500, VOILUTFunction=function)
        assert np.array_equal(found, np.floor(expected * 255 + 0.5)), function


def test_a_window_of_width_1_is_a_threshold() -> None:
    assert ramp(WindowCenter=1000, WindowWidth=1).tolist() == [0] * 1000 + [255] * 3096


def test_the_first_of_several_windows_is_used() -> None:
    several = {"WindowCenter": [1000, 3000], "WindowWidth": [500, 100]}
    assert np.array_equal(ramp(**several), ramp(WindowCenter=1000, WindowWidth=500))
    assert "the file's window (linear, the first of 2)" in read_radiograph(dicom(RAMP, **several)).notes


@pytest.mark.parametrize("width", [0, -5, 0.5])
def test_an_invalid_window_is_none(width: float) -> None:
    assert np.array_equal(ramp(WindowCenter=1000, WindowWidth=width), ramp())


def test_without_a_window_percentiles_are_the_range() -> None:
    found = read_radiograph(dicom(RAMP))
    low, high = 20, 4075  # 0.5 % of 4,096 values are 20.48, 99.5 % are 4075.52
    expected = np.clip((RAMP - float(low)) / (high - low), 0, 1)
    assert np.array_equal(found.pixels, np.floor(expected * 255 + 0.5))
    assert "no window in the file: from percentile 0.5 to 99.5 of its pixels" in found.notes


def test_rescaled_values_are_windowed() -> None:
    plain = ramp(WindowCenter=1000, WindowWidth=500)
    rescaled = ramp(RescaleSlope=2, RescaleIntercept=-100, WindowCenter=1899.5, WindowWidth=999)
    assert np.array_equal(plain, rescaled)


def test_a_negative_slope_is_not_an_inversion_of_its_own() -> None:
    found = ramp(RescaleSlope=-1, RescaleIntercept=4095, **FULL)
    assert np.array_equal(found, ramp(**FULL)[::-1])


def test_a_voi_lut_comes_before_a_window_and_outer_values_take_its_ends() -> None:
    entries = np.arange(1000) ** 2 // 16
    found = ramp(VOILUTSequence=lut(500, 16, entries), WindowCenter=1000, WindowWidth=500)
    expected = entries[np.clip(np.arange(4096) - 500, 0, 999)] / 65535
    assert np.array_equal(found, np.floor(expected * 255 + 0.5))


def test_a_voi_lut_that_announces_more_bits_than_it_has_keeps_its_brightness() -> None:
    entries = np.arange(4096)
    assert np.array_equal(ramp(VOILUTSequence=lut(0, 16, entries)), ramp(VOILUTSequence=lut(0, 12, entries)))


def test_a_modality_lut_comes_first() -> None:
    entries = np.arange(4096)[::-1]
    assert np.array_equal(ramp(ModalityLUTSequence=lut(0, 12, entries), **FULL), ramp(**FULL)[::-1])


def test_padding_is_black_and_outside_the_percentiles() -> None:
    values = np.full((64, 64), 4095, np.uint16)
    values[:, 8:] = RAMP[:, 8:] // 8 + 1000
    found = read_radiograph(dicom(values, PixelPaddingValue=4095))
    assert (found.pixels[:, :8] == 0).all()
    assert found.pixels[:, 8:].max() == 255
    assert "padding made black" in found.notes


def test_pixels_that_are_not_square_are_noted() -> None:
    found = read_radiograph(windowed(GREY, PixelAspectRatio=[2, 1]))
    assert same(found)
    assert "pixels that are not square, shown as if they were" in found.notes


def test_an_image_inside_another_sequence_is_not_the_image() -> None:
    inner = dataset(GREY[:5], bits=8)
    made = dataset(GREY, bits=8, IconImageSequence=Sequence([inner]))
    made["IconImageSequence"].is_undefined_length = True
    made.add_new(0x00091001, "SQ", Sequence([inner]))
    del made.IconImageSequence[0].file_meta
    assert same(read_radiograph(data_of(made)))


REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"ViewPosition": "LL"}, "its view is lateral"),
    ({"ViewPosition": "RL"}, "its view is lateral"),
    ({"ViewPosition": "LATERAL"}, "its view is lateral"),
    ({"ViewPosition": "LAO"}, "its view is oblique"),
    ({"ViewPosition": None, "PatientOrientation": ["A", "F"]}, "its view is lateral by the orientation"),
    ({"BodyPartExamined": "HAND"}, "its body part is not the chest"),
    ({"Modality": "CT"}, "its modality is not CR or DX, but CT"),
    ({"Modality": "ZZ"}, "its modality is not CR or DX"),
    ({"PresentationIntentType": "FOR PROCESSING"}, "it is raw data of the detector"),
]


@pytest.mark.parametrize(("changed", "message"), REFUSED)
def test_what_is_not_a_frontal_chest_radiograph_is_refused_or_accepted_with_a_warning(
    changed: dict[str, Any], message: str
) -> None:
    data = windowed(GREY, **changed)
    with pytest.raises(UsageError, match=f"^{message}.*any_view"):
        as_radiograph(data)
    found = as_radiograph(data, any_view=True)
    assert np.array_equal(found.pixels, GREY)
    assert any(message in warning for warning in found.warnings)


@pytest.mark.parametrize(("code", "lateral"), [("399173006", True), ("R-10236", True), ("272479007", False)])
def test_the_code_of_the_view(code: str, lateral: bool) -> None:
    item = Dataset()
    item.CodeValue = code
    data = windowed(GREY, ViewPosition=None, ViewCodeSequence=Sequence([item]))
    if lateral:
        with pytest.raises(ValueError, match="its view is lateral"):
            read_radiograph(data)
    else:
        assert same(read_radiograph(data))


@pytest.mark.parametrize(
    ("changed", "warning"),
    [
        ({"BurnedInAnnotation": "YES"}, "text is burned into its pixels"),
        ({"ViewPosition": None}, "its view is not stated"),
        ({"Modality": None}, "its modality is not stated"),
        ({"PatientOrientation": ["R", "F"]}, "mirrored or upside down"),
    ],
)
def test_warnings(changed: dict[str, Any], warning: str) -> None:
    found = read_radiograph(windowed(GREY, **changed))
    assert np.array_equal(found.pixels, GREY)
    assert len(found.warnings) == 1 and warning in found.warnings[0]


def test_of_several_images_the_first_is_read_if_any_view_is_accepted() -> None:
    other = 255 - GREY
    made = dataset(GREY, bits=8, NumberOfFrames=2)
    made.PixelData = GREY.tobytes() + other.tobytes()
    with pytest.raises(ValueError, match="several images"):
        read_radiograph(data_of(made))
    assert np.array_equal(read_radiograph(data_of(made), any_view=True).pixels, GREY)
    made.compress(RLELossless, generate_instance_uid=False)
    assert np.array_equal(read_radiograph(data_of(made), any_view=True).pixels, GREY)


@pytest.mark.parametrize("planar", [0, 1])
def test_a_screenshot_in_color(planar: int) -> None:
    color = np.random.default_rng(1).integers(0, 256, (20, 30, 3), dtype=np.uint8)
    made = dataset(color, bits=8, PlanarConfiguration=planar)
    if planar:
        made.PixelData = np.ascontiguousarray(np.moveaxis(color, 2, 0)).tobytes()
    with pytest.raises(ValueError, match="in color: a screenshot"):
        read_radiograph(data_of(made))
    found = read_radiograph(data_of(made), any_view=True).pixels
    assert np.array_equal(found, cv2.cvtColor(color, cv2.COLOR_RGB2GRAY))


def test_a_palette() -> None:
    index = np.arange(256, dtype=np.uint8).reshape(16, 16)
    made = dataset(index, bits=8, PhotometricInterpretation="PALETTE COLOR")
    for name, factor in (("Red", 1), ("Green", 2), ("Blue", 3)):
        made.add_new(f"{name}PaletteColorLookupTableDescriptor", "US", [256, 0, 16])
        entries = (np.arange(256) * factor % 256 << 8).astype("<u2").tobytes()
        made.add_new(f"{name}PaletteColorLookupTableData", "OW", entries)
    color = np.stack([index, index * 2, index * 3], axis=2)
    found = read_radiograph(data_of(made), any_view=True).pixels
    assert np.array_equal(found, cv2.cvtColor(color, cv2.COLOR_RGB2GRAY))


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"Rows": 60_000, "Columns": 60_000}, "60000×60000 pixels, more than"),
        ({"Rows": 0}, "without pixels"),
        ({"Rows": 4000}, "fewer pixels than it announces"),
        ({"BitsStored": 1, "HighBit": 0}, "8 to 16 bits"),
        ({"BitsAllocated": 32}, "8 to 16 bits"),
        ({"HighBit": 16}, "8 to 16 bits"),
        ({"SamplesPerPixel": 2}, "neither gray nor colors"),
        ({"BitsAllocated": None}, "has no element"),
        ({"PhotometricInterpretation": None}, r"has no element \(0028,0004\)"),
        ({"NumberOfFrames": 0}, "number of images"),
        ({"PixelData": None}, "contains no image"),
        ({"RescaleSlope": 0}, "slope is 0"),
    ],
)
def test_impossible_files(changed: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        read_radiograph(windowed(GREY, **changed))
