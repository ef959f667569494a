"""Heat maps over radiographs: one colormap, an absolute scale, text that fits."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from chexvision.explain.overlay import blend, outlined, render_overlay, render_sheet, render_tile

GREY = np.full((60, 60), 128, np.uint8)
RAMP = np.tile(np.linspace(0, 4, 60, dtype=np.float32), (60, 1))


def lightness(rgb: np.ndarray) -> np.ndarray:
    """Luminance of RGB in [0, 255]."""
    return np.asarray(rgb.astype(np.float64) @ (0.2126, 0.7152, 0.0722))


def test_the_same_value_has_the_same_color_on_one_scale() -> None:
    strong, weak = np.full((4, 4), 4, np.float32), np.full((4, 4), 1, np.float32)
    of_ramp = blend(GREY, RAMP, 4.0)
    assert np.abs(blend(GREY, weak, 4.0)[0, 0].astype(int) - of_ramp[0, 15].astype(int)).max() <= 3
    assert np.array_equal(blend(GREY, strong, 4.0)[0, 0], of_ramp[0, -1])
    assert np.array_equal(blend(GREY, strong, 2.0), blend(GREY, strong, 4.0))  # beyond the scale: its end


def test_colors_get_lighter_with_the_value_and_are_never_gray() -> None:
    covered = blend(np.zeros((60, 60), np.uint8), RAMP, 4.0)[0]
    assert (np.diff(lightness(covered)) >= -1).all()
    colors = covered[6:] / (0.6 * RAMP[0, 6:, None] / 4)  # as they are before they cover anything
    assert np.ptp(colors, axis=1).min() > 100


@pytest.mark.parametrize("draw", [blend, outlined])
def test_nothing_is_drawn_where_nothing_raises_the_logit(draw: object) -> None:
    assert callable(draw)
    expected = np.stack([GREY] * 3, axis=2)
    assert np.array_equal(draw(GREY, np.zeros((3, 3), np.float32), 4.0), expected)
    assert np.array_equal(draw(GREY, RAMP, 0.0), expected)


def test_contours_leave_the_image_between_them_uncovered() -> None:
    drawn = outlined(GREY, RAMP, 4.0)
    colored = (drawn.max(axis=2) != drawn.min(axis=2))[30]
    assert 0 < colored.sum() < 30
    for level in (0.25, 0.5, 0.75):
        assert colored[round(59 * level) - 2 : round(59 * level) + 3].any()


@pytest.mark.parametrize("shape", [(600, 600), (600, 40), (40, 600), (1, 1)])
@pytest.mark.parametrize("contours", [False, True])
def test_an_overlay_has_room_for_its_text_whatever_the_image(shape: tuple[int, int], contours: bool) -> None:
    grey, note = np.zeros(shape, np.uint8), "regions that raise the logit " * 6
    made = render_overlay(grey, RAMP, 3.25, "Effusion  0.732", "n" * 300, note, contours=contours)
    assert made.width >= 720
    longer = render_overlay(grey, RAMP, 3.25, "Effusion  0.732", "n" * 300, note * 3, contours=contours)
    assert longer.height > made.height and longer.width == made.width
    columns = np.flatnonzero(np.asarray(made)[-60:].max(axis=(0, 2)) > 100)
    assert columns.max() < made.width - 8


def test_the_color_bar_shows_the_scale() -> None:
    def footer(scale: float) -> np.ndarray:
        made = render_overlay(GREY, RAMP, scale, "Effusion", "a.png", "note")
        return np.asarray(made)[76 + 640 :]

    assert not np.array_equal(footer(3.25), footer(3.5))
    bar = footer(3.25)[16 + 13, 34 : 34 + 200]
    assert np.array_equal(
        bar, blend(np.full((1, 200), 128, np.uint8), np.linspace(0, 1, 200, dtype=np.float32)[None], 1.0)[0]
    )
    assert np.ptp(footer(0.0)[16 + 13, 34:234].astype(int), axis=1).max() <= 20


def test_captions_of_sheets_wrap() -> None:
    tiles: list[Image.Image] = [render_tile(GREY, RAMP, 4.0, (), ("Effusion", "w" * 100)) for _ in range(4)]
    short, long = render_sheet([("Best", tiles)], "a caption"), render_sheet([("Best", tiles)], "a caption " * 30)
    assert short.width == long.width == 4 * 256 + 16
    assert long.height > short.height
