"""Images of heat maps over radiographs, and sheets of many of them: one colormap on an absolute scale."""

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

Heat = NDArray[np.float32]  # [H, W], at least 0, in units of the logit

CONTOURS = (0.25, 0.5, 0.75)  # of the scale
_PANEL = 640  # longest side of an image in an overlay
_NARROWEST = 720  # width of an overlay, whatever the image: its text has to fit
_MARGIN, _HEADER, _LINE = 16, 76, 26
_STRONGEST = 0.6  # opacity at the upper end of the scale; at 0 nothing covers the image
_GROUND, _INK, _FAINT = (17, 19, 23), (240, 242, 245), (176, 182, 191)
_BAR = 200
_MIDDLE = 128  # gray under the color bar
# Lightness rises with the value (Smith and van der Walt, "A Better Default Colormap for Matplotlib", SciPy 2015), and
# no color is near gray: their CIELAB chroma is at least 54. Inferno and magma start at 2, cividis is 0 in its middle:
# over a radiograph these colors would be taken for tissue.
_COLORMAP = cv2.COLORMAP_PLASMA


def render_overlay(
    grey: Grey, heat: Heat, scale: float, title: str, subtitle: str, note: str, *, contours: bool = False
) -> Image.Image:
    """The radiograph as it is and under its heat map, side by side in its own aspect ratio, with a color bar.

    Args:
        grey: uint8[H, W], the original image.
        heat: float[h, w] over the complete image, in units of the logit.
        scale: the value of the color bar's upper end, the same for all findings that are compared; 0 where nothing
            raises any of them.
        title: what is explained, with its probability.
        subtitle: which image.
        note: below the color bar.
        contours: draw lines at `CONTOURS` of the scale instead of colored areas.
    """
    shrunk = _PANEL / max(grey.shape)
    height, width = (max(1, round(side * shrunk)) for side in grey.shape)
    shown = _resized(grey, width, height)
    total = max(2 * width + 3 * _MARGIN, _NARROWEST)
    font = ImageFont.load_default(18)
    notes = _wrapped(note, font, total - 2 * _MARGIN)
    panels = Image.new("RGB", (total, _HEADER + height + 2 * _MARGIN + _LINE * (1 + len(notes))), _GROUND)
    panels.paste(Image.fromarray(np.stack([shown] * 3, axis=2)), (_MARGIN, _HEADER))
    mapped = outlined(shown, heat, scale) if contours else blend(shown, heat, scale)
    panels.paste(Image.fromarray(mapped), (width + 2 * _MARGIN, _HEADER))
    pen = ImageDraw.Draw(panels)
    large = ImageFont.load_default(28)
    pen.text((_MARGIN, 28), _fitted(pen, title, large, total - 2 * _MARGIN), _INK, large, anchor="lm")
    pen.text((_MARGIN, 56), _fitted(pen, subtitle, font, total - 2 * _MARGIN), _FAINT, font, anchor="lm")
    top = _HEADER + height + _MARGIN
    _draw_bar(panels, pen, top + _LINE // 2, scale, contours)
    for i, line in enumerate(notes, 1):
        pen.text((_MARGIN, top + _LINE * i + _LINE // 2), line, _FAINT, font, anchor="lm")
    return panels


def render_tile(
    grey: Grey, heat: Heat, scale: float, boxes: Sequence[Box], lines: Sequence[str], side: int = 240
) -> Image.Image:
    """A square image under its heat map with outlined boxes and lines of text below; `scale` as in `blend`."""
    shown = _resized(grey, side, side)
    tile = Image.new("RGB", (side, side + 20 * len(lines) + 6), _GROUND)
    tile.paste(Image.fromarray(blend(shown, heat, scale)), (0, 0))
    pen = ImageDraw.Draw(tile)
    for box in boxes:
        corners = [round(value * (side - 1)) for value in (box.left, box.top, box.right, box.bottom)]
        pen.rectangle([corners[0] - 1, corners[1] - 1, corners[2] + 1, corners[3] + 1], outline=(0, 0, 0))
        pen.rectangle(corners, outline=(255, 255, 255))
    font = ImageFont.load_default(15)
    for i, line in enumerate(lines):
        pen.text((2, side + 4 + 20 * i), _fitted(pen, line, font, side - 4), _FAINT if i else _INK, font)
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
    tile = Image.new("RGB", (side, side + 40), _GROUND)
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
    total = max(columns * (width + _MARGIN) + _MARGIN, _NARROWEST)
    font = ImageFont.load_default(16)
    captions = _wrapped(caption, font, total - 2 * _MARGIN)
    below = len(rows) * row_height + _MARGIN
    sheet = Image.new("RGB", (total, below + _LINE * len(captions) + _MARGIN), _GROUND)
    pen = ImageDraw.Draw(sheet)
    for i, (title, tiles) in enumerate(rows):
        top = _MARGIN + i * row_height
        pen.text((_MARGIN, top), title, _INK, ImageFont.load_default(20))
        for j, tile in enumerate(tiles):
            sheet.paste(tile, (_MARGIN + j * (width + _MARGIN), top + 30))
    for i, line in enumerate(captions):
        pen.text((_MARGIN, below + _LINE * i + _LINE // 2), line, _FAINT, font, anchor="lm")
    return sheet


def blend(grey: Grey, heat: Heat, scale: float) -> NDArray[np.uint8]:
    """uint8[H, W, 3], RGB: the image, more covered by color where the heat map is higher.

    Args:
        grey: uint8[H, W].
        heat: float[h, w], in units of the logit.
        scale: the value that gets the last color and the strongest cover, as do higher ones; 0 covers nothing.
    """
    shares = _shares(heat, scale, *grey.shape)
    opacity = (_STRONGEST * shares)[:, :, None]
    return np.round(grey[:, :, None] * (1 - opacity) + _colors(shares) * opacity).astype(np.uint8)


def outlined(grey: Grey, heat: Heat, scale: float) -> NDArray[np.uint8]:
    """uint8[H, W, 3], RGB: the image, not covered, with lines where the heat map is at `CONTOURS` of the scale."""
    shares = _shares(heat, scale, *grey.shape)
    image = np.stack([grey] * 3, axis=2)
    for level in CONTOURS:
        above = (shares >= level).astype(np.uint8)
        lines, _ = cv2.findContours(above, cv2.RETR_LIST, cv2.CHAIN_APPROX_NONE)
        color = [int(part) for part in _colors(np.full((1, 1), level, np.float32))[0, 0]]
        for outline, width in (((0, 0, 0), 5), (color, 2)):
            cv2.polylines(image, list(lines), isClosed=True, color=outline, thickness=width, lineType=cv2.LINE_AA)
    return image


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


def _shares(heat: Heat, scale: float, height: int, width: int) -> NDArray[np.float32]:
    """float[height, width] in [0, 1]: the heat map's shares of the scale."""
    if scale <= 0:
        return np.zeros((height, width), np.float32)
    enlarged = cv2.resize(heat.astype(np.float32), (width, height), interpolation=cv2.INTER_LINEAR)
    return np.asarray(np.clip(enlarged / scale, 0, 1), np.float32)


def _colors(shares: NDArray[np.float32]) -> NDArray[np.uint8]:
    levels = np.round(255 * shares).astype(np.uint8)
    return np.asarray(cv2.cvtColor(cv2.applyColorMap(levels, _COLORMAP), cv2.COLOR_BGR2RGB), np.uint8)


def _resized(grey: Grey, width: int, height: int) -> Grey:
    shrink = grey.shape[0] >= height and grey.shape[1] >= width
    resized = cv2.resize(grey, (width, height), interpolation=cv2.INTER_AREA if shrink else cv2.INTER_CUBIC)
    return np.asarray(resized, np.uint8)


def _draw_bar(image: Image.Image, pen: ImageDraw.ImageDraw, middle: int, scale: float, contours: bool) -> None:
    """The scale, as colors over gray appear in the image; with contours, their colors at their values."""
    font = ImageFont.load_default(18)
    if scale <= 0:
        pen.text((_MARGIN, middle), "all values are 0", _INK, font, anchor="lm")
        return
    pen.text((_MARGIN, middle), "0", _INK, font, anchor="lm")
    left = _MARGIN + 18
    gray = np.full((16, _BAR), _MIDDLE, np.uint8)
    ramp = np.tile(np.linspace(0, scale, _BAR, dtype=np.float32), (16, 1))
    image.paste(Image.fromarray(gray if contours else blend(gray, ramp, scale)), (left, middle - 8))
    for level in CONTOURS if contours else ():
        color = tuple(int(part) for part in _colors(np.full((1, 1), level, np.float32))[0, 0])
        x = left + round(level * (_BAR - 1))
        pen.rectangle((x - 3, middle - 8, x + 3, middle + 7), (0, 0, 0))
        pen.rectangle((x - 1, middle - 8, x + 1, middle + 7), color)
    lines = f", lines at {', '.join(f'{level * scale:.3g}' for level in CONTOURS)}" if contours else ""
    pen.text((left + _BAR + 8, middle), f"{scale:.3g} logit units{lines}", _INK, font, anchor="lm")


def _fitted(
    pen: ImageDraw.ImageDraw, text: str, font: ImageFont.FreeTypeFont | ImageFont.ImageFont, width: float
) -> str:
    """`text`, its end replaced by … where it is longer than `width` pixels."""
    shown = text
    while len(shown) > 1 and pen.textlength(shown, font) > width:
        shown = shown[:-2] + "…"
    return shown


def _wrapped(text: str, font: ImageFont.FreeTypeFont | ImageFont.ImageFont, width: float) -> list[str]:
    """The lines of `text`, each at most `width` pixels wide; only a word that is wider is cut."""
    pen = ImageDraw.Draw(Image.new("L", (1, 1)))
    lines: list[str] = []
    for word in text.split():
        longer = f"{lines[-1]} {word}" if lines else word
        if lines and pen.textlength(longer, font) <= width:
            lines[-1] = longer
        else:
            lines.append(_fitted(pen, word, font, width))
    return lines
