"""The preparation of images as tensor operations, so that an exported model takes originals of any size.

The reference is `chexvision.images.preprocessing.Preprocessing`, which calls OpenCV: resize by area averaging (linear
where a side is smaller) and contrast-limited adaptive histogram equalization (Zuiderveld, "Contrast limited adaptive
histogram equalization", Graphics Gems IV, 1994). The arithmetic is OpenCV's, of modules/imgproc/src/resize.cpp and
clahe.cpp: nearly all pixels are equal, and none differs by more than one gray level in a step.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from chexvision.images.preprocessing import Preprocessing

_BINS = 256
_SMALLEST_SHARE = 1e-3  # of a pixel: OpenCV drops what a cell covers less of
_COEFFICIENT = 2048  # OpenCV's fixed-point scale of linear coefficients


class ImageSteps(nn.Module):
    """`Preprocessing.apply` for a batch of originals of one size.

    Args:
        steps: of the model.
    """

    def __init__(self, steps: Preprocessing) -> None:
        super().__init__()
        self.side = steps.shard_size or steps.image_size
        self.second = steps.image_size if steps.image_size != self.side else None
        self.equalize = (
            Clahe(steps.image_size, steps.clahe.tiles, steps.clahe.clip_limit) if steps.clahe.enabled else None
        )

    def forward(self, images: Tensor) -> Tensor:
        """uint8[B, H, W] to float[B, image_size, image_size] of whole numbers in [0, 255]."""
        return self.equalized(self.resized(images))

    def resized(self, images: Tensor) -> Tensor:
        """uint8[B, H, W] to float[B, image_size, image_size] before equalization."""
        resized = resize(images.float(), self.side)
        return resized if self.second is None else resize(resized, self.second)

    def equalized(self, resized: Tensor) -> Tensor:
        """The result of `resized`, equalized where the model's images are."""
        return resized if self.equalize is None else self.equalize(resized)


def resize(images: Tensor, size: int) -> Tensor:
    """float[B, H, W] of whole numbers to float[B, size, size], as `chexvision.images.radiograph.resize_area`.

    Weights of area averaging are computed from whole numbers, in units of 1/size pixels: products with float32
    coordinates of large originals would be off by more than OpenCV's smallest share.
    """
    height, width = (_length(images, axis) for axis in (1, 2))
    shrinks = (height >= size) & (width >= size)
    # OpenCV sums whole cells and divides once where both ratios are whole; elsewhere it sums shares.
    whole = (height % size == 0) & (width % size == 0)
    of_width, of_height = (torch.where(whole, size, length) for length in (width, height))
    average = _area(width, _cells(images, 2), size) / of_width
    across = torch.where(shrinks, average, _linear(width, _cells(images, 2), size))
    columns = images @ across.T  # [B, H, size]
    averaged = (_area(height, _cells(images, 1), size) / of_height) @ columns
    averaged = torch.where(whole, averaged * (1 / (height / size * (width / size))), averaged)
    # OpenCV rounds halves up where it averages 2x2 pixels, and to the even number elsewhere.
    halves = (height == 2 * size) & (width == 2 * size)
    averaged = torch.where(halves, (averaged + 0.5).floor(), averaged.round())
    return torch.where(shrinks, averaged, _interpolated(columns, height, size)).clamp(0, 255)


def _length(images: Tensor, axis: int) -> Tensor:
    """The number of rows or columns as int64[]."""
    return torch.full((), images.shape[axis], dtype=torch.int64)


def _cells(images: Tensor, axis: int) -> Tensor:
    return torch.arange(images.shape[axis])


def _area(length: Tensor, cells: Tensor, size: int) -> Tensor:
    """float[size, length]: the part of each of `length` cells in the sums, in units of 1/size cells."""
    outputs = torch.arange(size)[:, None] * length
    inputs = cells[None] * size
    covered = torch.minimum(inputs + size, outputs + length) - torch.maximum(inputs, outputs)
    covered = covered.clamp(min=0).float()
    return torch.where(covered > _SMALLEST_SHARE * size, covered, 0.0)


def _places(length: Tensor, size: int) -> Tensor:
    """int64[size]: where outputs are among the inputs, in units of 1 / (2 size) cells; the first may be negative."""
    return (2 * torch.arange(size) + 1) * length - size


def _linear(length: Tensor, cells: Tensor, size: int) -> Tensor:
    """float[size, length]: the share of each cell in linear interpolation."""
    places = torch.minimum(_places(length, size).clamp(min=0), (length - 1) * 2 * size)
    distance = (places[:, None] - cells[None] * 2 * size).abs()
    share = (2 * size - distance).clamp(min=0).float() / (2 * size)
    return (share * _COEFFICIENT).round() / _COEFFICIENT


def _interpolated(columns: Tensor, height: Tensor, size: int) -> Tensor:
    """Rows of float[B, H, size] interpolated to float[B, size, size], truncated where OpenCV's integers are."""
    # From one cell above the image on. Beyond a border both rows are the same one; each part is truncated.
    places = _places(height, size) + 2 * size
    first = torch.div(places, 2 * size, rounding_mode="floor")
    share = (places - first * 2 * size).float() / (2 * size)
    lower = ((1 - share) * _COEFFICIENT).round().int()[:, None]
    upper = (share * _COEFFICIENT).round().int()[:, None]
    scaled = (columns * (_COEFFICIENT / 16)).int()
    parts = [
        torch.div(scaled.index_select(1, rows) * weight, 65536, rounding_mode="floor")
        for rows, weight in (
            ((first - 1).clamp(min=0), lower),
            (torch.minimum(first, height - 1), upper),
        )
    ]
    return torch.div(parts[0] + parts[1] + 2, 4, rounding_mode="floor").float()


class Clahe(nn.Module):
    """Contrast-limited adaptive histogram equalization of square images.

    Args:
        side: of the images in pixels.
        tiles: per side.
        clip_limit: relative to a flat histogram.
    """

    padded: Tensor
    share: Tensor
    table: Tensor
    bins: Tensor

    def __init__(self, side: int, tiles: int, clip_limit: float) -> None:
        super().__init__()
        self.tiles = tiles
        extra = 0 if side % tiles == 0 else tiles - side % tiles
        self.tile = (side + extra) // tiles
        self.limit = max(int(clip_limit * self.tile**2 / _BINS), 1)
        # The border is reflected, its own line not repeated.
        rows = torch.arange(side + extra)
        self.register_buffer("padded", torch.where(rows < side, rows, 2 * (side - 1) - rows), persistent=False)
        place = torch.arange(side).float() * torch.tensor(1 / self.tile) - 0.5
        before = place.floor()
        self.register_buffer("share", place - before, persistent=False)
        before = before.long()
        tile = torch.stack([before.clamp(min=0), (before + 1).clamp(max=tiles - 1)])
        # [2, 2, side, side]: above and below, left and right.
        table = (tile[:, None, :, None] * tiles + tile[None, :, None, :]) * _BINS
        self.register_buffer("table", table.flatten(2), persistent=False)
        self.register_buffer("bins", torch.arange(_BINS, dtype=torch.int32), persistent=False)

    def forward(self, images: Tensor) -> Tensor:
        """float[B, side, side] of whole numbers in [0, 255] to the same."""
        gray = images.long()
        luts = self._luts(gray).flatten(1)  # [B, tiles² * 256]
        flat = gray.flatten(1)
        across, down = self.share[None, None, :], self.share[None, :, None]
        rows = []
        for above in (0, 1):
            left, right = (luts.gather(1, flat + self.table[above, side]).view_as(images) for side in (0, 1))
            rows.append(left * (1 - across) + right * across)
        return (rows[0] * (1 - down) + rows[1] * down).round().clamp(0, 255)

    def _luts(self, gray: Tensor) -> Tensor:
        """float[B, tiles², 256]: the gray level that each tile maps each level to."""
        tiles, tile = self.tiles, self.tile
        padded = gray.index_select(1, self.padded).index_select(2, self.padded)
        cells = padded.reshape(-1, tiles, tile, tiles, tile).transpose(2, 3).reshape(-1, tiles**2, tile**2)
        counts = cells.new_zeros((), dtype=torch.int32).expand(cells.shape[0], tiles**2, _BINS)
        ones = torch.ones_like(cells, dtype=torch.int32)
        counts = counts.scatter_add(2, cells, ones)
        clipped = counts.clamp(max=self.limit)
        excess = (counts - clipped).sum(dim=2, keepdim=True, dtype=torch.int32)
        each = torch.div(excess, _BINS, rounding_mode="floor")
        left = excess - each * _BINS
        step = torch.div(_BINS, left.clamp(min=1), rounding_mode="floor")
        one_more = (self.bins % step == 0) & (self.bins < left * step)
        counts = clipped + each + one_more.int()
        return (counts.cumsum(dim=2, dtype=torch.int32).float() * ((_BINS - 1) / tile**2)).round().clamp(max=255)
