"""Augmentation of a batch at once on the device, each image with its own parameters.

Parameters are sampled for the effective batch on the CPU, so they depend only on seed, epoch and step: an image is
augmented in the same way with one process or two, with a GPU or without.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, fields, replace

import torch
import torch.nn.functional as F
from torch import Tensor

from chexvision.config.data_config import AugmentConfig
from chexvision.data.randaugment import change_pixels, sample_operations
from chexvision.models.normalize import as_input
from chexvision.seeds import mix_seed

_TRIES = 10  # at a crop that lies within the image, as torchvision's


@dataclass(frozen=True, slots=True)
class AugmentParameters:
    """The augmentation of each of B images; tensors on the CPU.

    Args:
        affine: float[B, 2, 3], output to input coordinates in [-1, 1].
        brightness: float[B], added to pixels in [0, 1].
        contrast: float[B], factor around the image's mean.
        blur_sigma: float[B] in pixels, 0 for none.
        erase: float[B, 4], top, left, bottom, right as shares of the side; equal edges erase nothing.
        operations: int64[B, n], those of RandAugment on pixels; see `chexvision.data.randaugment.Operations`.
        arguments: float[B, n], of these.
    """

    affine: Tensor
    brightness: Tensor
    contrast: Tensor
    blur_sigma: Tensor
    erase: Tensor
    operations: Tensor
    arguments: Tensor

    def __getitem__(self, index: Tensor) -> AugmentParameters:
        return AugmentParameters(*(getattr(self, field.name)[index] for field in fields(self)))

    def mirrored(self, chosen: Tensor) -> AugmentParameters:
        """With left and right of the input images of bool[B] `chosen` exchanged, before anything else is done."""
        if not bool(chosen.any()):
            return self
        across = torch.where(chosen[:, None], -self.affine[:, 0], self.affine[:, 0])
        return replace(self, affine=torch.stack([across, self.affine[:, 1]], dim=1))


def sample(config: AugmentConfig, count: int, seed: int) -> AugmentParameters:
    """Parameters for `count` images, the same for the same `seed`."""
    generator = torch.Generator().manual_seed(seed)

    def uniform(low: float, high: float, *shape: int) -> Tensor:
        return low + (high - low) * torch.rand(count, *shape, generator=generator)

    def chance(probability: float) -> Tensor:
        return torch.rand(count, generator=generator) < probability

    angle = torch.deg2rad(uniform(-config.rotate_degrees, config.rotate_degrees))
    shear = torch.tan(torch.deg2rad(uniform(-config.shear_degrees, config.shear_degrees)))
    scale = 1 / uniform(1 - config.scale, 1 + config.scale)
    shift = uniform(-2 * config.translate, 2 * config.translate, 2)  # the image is 2 wide
    flip = torch.where(chance(config.hflip), -1.0, 1.0)
    cos, sin = torch.cos(angle) * scale, torch.sin(angle) * scale
    first = torch.stack([flip * cos, flip * (shear * cos - sin), shift[:, 0]], dim=1)
    second = torch.stack([sin, shear * sin + cos, shift[:, 1]], dim=1)

    affine = torch.stack([first, second], dim=1)
    # Newer parameters have generators of their own: they shift no random numbers of recipes without them.
    if config.crop_scale < 1:
        affine = _within(_crops(config, count, mix_seed(seed, 1)), affine)
    operations = sample_operations(config, count, mix_seed(seed, 2))
    if config.randaugment_ops:
        affine = affine @ operations.affine

    blur_sigma = torch.where(chance(config.blur), uniform(0.1, max(0.1, config.blur_sigma)), 0.0)
    area = torch.where(chance(config.erase), uniform(0.02, max(0.02, config.erase_area)), 0.0)
    height = torch.sqrt(area * torch.exp(uniform(-math.log(3), math.log(3)))).clamp(max=1)
    width = torch.where(height > 0, area / height.clamp(min=1e-6), 0.0).clamp(max=1)
    top, left = uniform(0, 1) * (1 - height), uniform(0, 1) * (1 - width)
    return AugmentParameters(
        affine=affine,
        brightness=uniform(-config.brightness, config.brightness),
        contrast=uniform(1 - config.contrast, 1 + config.contrast),
        blur_sigma=blur_sigma,
        erase=torch.stack([top, left, top + height, left + width], dim=1),
        operations=operations.pixel,
        arguments=operations.arguments,
    )


def _crops(config: AugmentConfig, count: int, seed: int) -> Tensor:
    """Random crops, float[count, 4]: left, top, width, height as shares of the side.

    Distributed as those of torchvision's ``RandomResizedCrop`` of a square image: area and logarithm of the aspect
    ratio are uniform; a crop that is wider or higher than the image is sampled again, and after ten of these it is
    the entire image.
    """
    generator = torch.Generator().manual_seed(seed)
    area, ratio = torch.rand(2, count, _TRIES, generator=generator)
    area = config.crop_scale + (1 - config.crop_scale) * area
    ratio = torch.exp((2 * ratio - 1) * math.log(config.crop_ratio))
    sides = torch.stack([torch.sqrt(area * ratio), torch.sqrt(area / ratio)], dim=2)
    fits = (sides <= 1).all(dim=2)
    first = fits.int().argmax(dim=1)  # of the tries that fit
    size = torch.where(fits.any(dim=1, keepdim=True), sides[torch.arange(count), first], 1.0)
    corner = torch.rand(count, 2, generator=generator) * (1 - size)
    return torch.cat([corner, size], dim=1)


def _within(crops: Tensor, affine: Tensor) -> Tensor:
    """`affine` applied to the crops, resized to the size of the image: still one map from output to input."""
    corner, size = crops[:, :2, None], crops[:, 2:, None]
    cropped = size * affine
    cropped[:, :, 2:] += 2 * corner + size - 1
    return cropped


def augment(
    images: Tensor, parameters: AugmentParameters, mean: float, std: float, size: int | None = None
) -> Tensor:
    """Augment and normalize images.

    Args:
        images: uint8[B, H, W].
        parameters: of each of them.
        mean: of the network's input, see `chexvision.images.preprocessing.Preprocessing`.
        std: the same.
        size: side in pixels of the result, if it is to be smaller than the images; they are reduced first.

    Returns:
        float[B, 3, H, W]; the three channels are one in memory.
    """
    x = images.unsqueeze(1).float().div_(255)
    if size is not None and size != x.shape[2]:
        x = F.interpolate(x, size=(size, size), mode="bilinear", antialias=True)
    grid = F.affine_grid(parameters.affine.to(x.device, non_blocking=True), list(x.shape), align_corners=False)
    x = F.grid_sample(x, grid, mode="bilinear", padding_mode="zeros", align_corners=False)
    x = change_pixels(x, parameters.operations, parameters.arguments)
    x = _blur(x, parameters.blur_sigma)
    brightness, contrast = (
        t.to(x.device, non_blocking=True).view(-1, 1, 1, 1) for t in (parameters.brightness, parameters.contrast)
    )
    gray = x.mean(dim=(2, 3), keepdim=True)
    x = ((x - gray) * contrast + (gray + brightness)).clamp_(0, 1)
    return as_input(_erase(x, parameters.erase, mean), mean, std)


def _blur(x: Tensor, sigma: Tensor) -> Tensor:
    """Gaussian blur of the images of float[B, 1, H, W] whose `sigma` is not 0, each with its own."""
    # `sigma` is on the CPU: choosing does not wait for the device.
    chosen = torch.nonzero(sigma).flatten()
    if not len(chosen):
        return x
    radius = math.ceil(3 * float(sigma.max()))
    offsets = torch.arange(-radius, radius + 1, dtype=torch.float32)
    kernel = torch.exp(-0.5 * (offsets / sigma[chosen, None]) ** 2)
    kernel = (kernel / kernel.sum(dim=1, keepdim=True)).to(x.device, non_blocking=True)
    count = len(chosen)
    index = chosen.to(x.device, non_blocking=True)
    picked = F.pad(x[index].transpose(0, 1), (radius, radius, radius, radius), mode="replicate")
    picked = F.conv2d(picked, kernel.view(count, 1, 1, -1), groups=count)
    picked = F.conv2d(picked, kernel.view(count, 1, -1, 1), groups=count)
    return x.index_copy(0, index, picked.transpose(0, 1))


def _erase(x: Tensor, boxes: Tensor, gray: float) -> Tensor:
    """Fill a rectangle of each image with `gray`."""
    if not bool((boxes[:, 2] > boxes[:, 0]).any()):
        return x
    height, width = x.shape[2:]
    box = boxes.to(x.device, non_blocking=True).view(-1, 4, 1, 1)
    rows = ((torch.arange(height, device=x.device) + 0.5) / height).view(1, -1, 1)
    columns = ((torch.arange(width, device=x.device) + 0.5) / width).view(1, 1, -1)
    inside = (rows >= box[:, 0]) & (rows < box[:, 2]) & (columns >= box[:, 1]) & (columns < box[:, 3])
    return x.masked_fill(inside.unsqueeze(1), gray)
