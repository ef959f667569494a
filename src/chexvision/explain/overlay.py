"""Images of heat maps over radiographs, and sheets of many of them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from chexvision.errors import UsageError
from chexvision.files.atomic import atomic_path
from chexvision.foreign import safe_name
from chexvision.images.radiograph import Grey
from chexvision.nih.boxes import Box

Heat = NDArray[np.float32]  # [H, W] in [0, 1]

_PANEL = 640  # longest side of an image in an overlay
_MARGIN, _HEADER, _FOOTER = 16, 46, 44
_STRONGEST = 0.6  # opacity of the heat map where it is 1
_GROUND, _INK, _FAINT = (17, 19, 23), (240, 242, 245), (160, 166, 175)
_BAR = 180


def render_overlay(grey: Grey, heat: Heat, title: str, subtitle: str, note: str) -> Image.Image:
    """The radiograph as it is and under its heat map, side by side in its own aspect ratio, with a legend.

    Args:
        grey: uint8[H, W], the original image.
        heat: float[h, w] in [0, 1] over the complete image.
        title: what is explained, with its probability.
        subtitle: which image.
        note: below the images, next to the color bar.
    """
    scale = _PANEL / max(grey.shape)
    height, width = (max(1, round(side * scale)) for side in grey.shape)
    shown = _resized(grey, width, height)
    panels = Image.new("RGB", (2 * width + 3 * _MARGIN, height + _HEADER + _FOOTER), _GROUND)
    panels.paste(Image.fromarray(np.stack([shown] * 3, axis=2)), (_MARGIN, _HEADER))
    panels.paste(Image.fromarray(blend(shown, heat)), (width + 2 * _MARGIN, _HEADER))
    pen = ImageDraw.Draw(panels)
    pen.text((_MARGIN, _HEADER / 2), title, _INK, ImageFont.load_default(22), anchor="lm")
    small = ImageFont.load_default(14)
    left = _MARGIN + pen.textlength(title, ImageFont.load_default(22)) + _MARGIN
    subtitle = _fitted(pen, subtitle, small, panels.width - _MARGIN - left)
    pen.text((panels.width - _MARGIN, _HEADER / 2), subtitle, _FAINT, small, anchor="rm")
    middle = panels.height - _FOOTER / 2
    room = panels.width - _BAR - 110 - 2 * _MARGIN
    pen.text((_MARGIN, middle), _fitted(pen, note, small, room), _FAINT, small, anchor="lm")
    _draw_bar(panels, pen, int(middle))
    return panels


def render_tile(grey: Grey, heat: Heat, boxes: Sequence[Box], lines: Sequence[str], side: int = 224) -> Image.Image:
    """A square image under its heat map with outlined boxes and lines of text below."""
    shown = _resized(grey, side, side)
    tile = Image.new("RGB", (side, side + 18 * len(lines) + 6), _GROUND)
    tile.paste(Image.fromarray(blend(shown, heat)), (0, 0))
    pen = ImageDraw.Draw(tile)
    for box in boxes:
        corners = [round(value * (side - 1)) for value in (box.left, box.top, box.right, box.bottom)]
        pen.rectangle([corners[0] - 1, corners[1] - 1, corners[2] + 1, corners[3] + 1], outline=(0, 0, 0))
        pen.rectangle(corners, outline=(255, 255, 255))
    font = ImageFont.load_default(13)
    for i, line in enumerate(lines):
        pen.text((2, side + 4 + 18 * i), _fitted(pen, line, font, side - 4), _FAINT if i else _INK, font)
    return tile


def render_gray_tile(values: Heat, title: str, side: int) -> Image.Image:
    """A square map as it is, from its lowest value (black) to its highest (white), with its range below.

    Args:
        values: float[h, w], finite; enlarged without interpolation.
        title: on the first line.
        side: of the map in the tile, in pixels.
    """
    low, high = float(values.min()), float(values.max())
    levels = np.zeros(values.shape, np.uint8)
    if high > low:
        levels = np.round(255 * ((values.astype(np.float64) - low) / (high - low))).astype(np.uint8)
    shrink = min(values.shape) > side
    shown = cv2.resize(levels, (side, side), interpolation=cv2.INTER_AREA if shrink else cv2.INTER_NEAREST)
    tile = Image.new("RGB", (side, side + 38), _GROUND)
    tile.paste(Image.fromarray(np.stack([shown] * 3, axis=2)), (0, 0))
    pen = ImageDraw.Draw(tile)
    font = ImageFont.load_default(13)
    for i, line in enumerate((title, f"{low:.3g} to {high:.3g}")):
        pen.text((2, side + 2 + 17 * i), _fitted(pen, line, font, side - 4), _FAINT if i else _INK, font)
    return tile


def render_sheet(rows: Sequence[tuple[str, Sequence[Image.Image]]], caption: str) -> Image.Image:
    """Tiles of one size in titled rows, with a caption below; not empty."""
    width, height = rows[0][1][0].size
    columns = max(len(tiles) for _, tiles in rows)
    row_height = height + 30 + _MARGIN
    size = (columns * (width + _MARGIN) + _MARGIN, len(rows) * row_height + _MARGIN + _FOOTER)
    sheet = Image.new("RGB", (max(size[0], 720), size[1]), _GROUND)
    pen = ImageDraw.Draw(sheet)
    for i, (title, tiles) in enumerate(rows):
        top = _MARGIN + i * row_height
        pen.text((_MARGIN, top), title, _INK, ImageFont.load_default(18))
        for j, tile in enumerate(tiles):
            sheet.paste(tile, (_MARGIN + j * (width + _MARGIN), top + 30))
    font = ImageFont.load_default(14)
    caption = _fitted(pen, caption, font, sheet.width - 2 * _MARGIN)
    pen.text((_MARGIN, sheet.height - _FOOTER / 2), caption, _FAINT, font, anchor="lm")
    return sheet


def blend(grey: Grey, heat: Heat) -> NDArray[np.uint8]:
    """uint8[H, W, 3], RGB: the image, more covered by color where the heat map is higher."""
    height, width = grey.shape
    enlarged = np.clip(cv2.resize(heat, (width, height), interpolation=cv2.INTER_LINEAR), 0, 1)
    opacity = (_STRONGEST * enlarged)[:, :, None]
    colors = _colors(np.round(255 * enlarged).astype(np.uint8))
    return np.round(grey[:, :, None] * (1 - opacity) + colors * opacity).astype(np.uint8)


def png_name(path: Path, part: str) -> str:
    """The name of the image file that shows `part`, a finding or a layer, of the image at `path`."""
    return f"{safe_name(f'{path.stem}-{part}')}.png"


def check_png_names(paths: Sequence[Path], parts: Sequence[str]) -> None:
    """Check that all images and parts have different file names.

    Raises:
        UsageError: two share one, or a path is named twice.
    """
    seen: dict[str, Path] = {}
    for path in paths:
        if paths.count(path) > 1:
            raise UsageError(f"{path} is named twice")
        for part in parts:
            # Some file systems ignore case.
            other = seen.setdefault(png_name(path, part).casefold(), path)
            if other != path:
                raise UsageError(
                    f"{other} and {path} would share their overlays' names; explain them into two folders"
                )


def write_png(path: Path, image: Image.Image) -> None:
    """Write an image atomically."""
    with atomic_path(path) as partial:
        image.save(partial, format="PNG")


def _colors(levels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    # The scale's last tenth darkens again: the maximum would look like a hole.
    bright = np.round(0.9 * levels.astype(np.float32)).astype(np.uint8)
    return np.asarray(cv2.cvtColor(cv2.applyColorMap(bright, cv2.COLORMAP_TURBO), cv2.COLOR_BGR2RGB), np.uint8)


def _resized(grey: Grey, width: int, height: int) -> Grey:
    shrink = grey.shape[0] >= height and grey.shape[1] >= width
    resized = cv2.resize(grey, (width, height), interpolation=cv2.INTER_AREA if shrink else cv2.INTER_CUBIC)
    return np.asarray(resized, np.uint8)


def _draw_bar(image: Image.Image, pen: ImageDraw.ImageDraw, middle: int) -> None:
    right = image.width - _MARGIN
    font = ImageFont.load_default(14)
    pen.text((right, middle), "most", _FAINT, font, anchor="rm")
    right -= 42
    ramp = np.tile(np.linspace(0, 255, _BAR).astype(np.uint8), (12, 1))
    image.paste(Image.fromarray(_colors(ramp)), (right - _BAR, middle - 6))
    pen.text((right - _BAR - 8, middle), "none", _FAINT, font, anchor="rm")


def _fitted(
    pen: ImageDraw.ImageDraw, text: str, font: ImageFont.FreeTypeFont | ImageFont.ImageFont, width: float
) -> str:
    """`text`, its end replaced by … where it is longer than `width` pixels."""
    shown = text
    while len(shown) > 1 and pen.textlength(shown, font) > width:
        shown = shown[:-2] + "…"
    return shown
