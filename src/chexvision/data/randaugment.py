"""RandAugment of a batch on the device: each image has operations of its own, with magnitudes of its own.

Cubuk et al., "RandAugment: Practical Automated Data Augmentation with a Reduced Search Space", NeurIPS 2020.
Operations, magnitudes and probability are those of timm's ``rand-mM-mstdS-inc1`` ("increasing": a higher magnitude
changes more). Three things differ. Rotation, shear and translation are composed with the other geometry of the
augmentation into one map, so that an image is interpolated once; they come before the operations on pixels. Pixels
from outside the image are black, as everywhere here, not gray. "Color" has no effect on gray images.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from chexvision.config.data_config import AugmentConfig

_PROBABILITY = 0.5  # of each sampled operation, as timm's default
_HIGHEST = 10.0  # magnitude
_NONE = -1


@dataclass(frozen=True, slots=True)
class Operations:
    """The operations of each of B images; tensors on the CPU.

    Args:
        affine: float[B, 3, 3], the geometric ones together, output to input coordinates in [-1, 1].
        pixel: int64[B, n], those on pixels in their order: indexes into `PIXEL_OPERATIONS`, or -1 for none.
        arguments: float[B, n], of these: bits, a threshold, an addend or a factor.
    """

    affine: Tensor
    pixel: Tensor
    arguments: Tensor


def sample_operations(config: AugmentConfig, count: int, seed: int) -> Operations:
    """Operations for `count` images, the same for the same `seed`."""
    generator = torch.Generator().manual_seed(seed)
    shape = (count, config.randaugment_ops)
    chosen = torch.randint(len(_LEVELS), shape, generator=generator)
    applied = torch.rand(shape, generator=generator) < _PROBABILITY
    noise = torch.randn(shape, generator=generator, dtype=torch.float64)
    level = (config.randaugment_magnitude + config.randaugment_std * noise).clamp(0, _HIGHEST) / _HIGHEST
    sign = torch.where(torch.rand(shape, generator=generator) < 0.5, -1.0, 1.0).double()
    values = torch.stack([of(level, sign) for of in _LEVELS.values()])
    arguments = values.gather(0, chosen.unsqueeze(0)).squeeze(0).float()
    affine = torch.eye(3).repeat(count, 1, 1)
    for layer in range(config.randaugment_ops):
        for number, name in enumerate(_LEVELS):
            if name in _GEOMETRY:
                rows = torch.nonzero(applied[:, layer] & (chosen[:, layer] == number)).flatten()
                affine[rows] = affine[rows] @ _GEOMETRY[name](arguments[rows, layer])
    numbers = torch.tensor([_PIXEL_NAMES.index(name) if name in PIXEL_OPERATIONS else _NONE for name in _LEVELS])
    return Operations(affine, torch.where(applied, numbers[chosen], _NONE), arguments)


def change_pixels(x: Tensor, pixel: Tensor, arguments: Tensor) -> Tensor:
    """Apply the operations on pixels to float[B, 1, H, W] in [0, 1]; see `Operations`.

    Images with any operation are rounded to 256 levels, on which the operations are defined.
    """
    # The numbers are on the CPU: choosing does not wait for the device.
    chosen = torch.nonzero((pixel >= 0).any(dim=1)).flatten()
    if not len(chosen):
        return x
    index = chosen.to(x.device, non_blocking=True)
    levels = (x[index] * 255).round_().to(torch.uint8)
    for layer in range(pixel.shape[1]):
        for number, operation in enumerate(PIXEL_OPERATIONS.values()):
            rows = torch.nonzero(pixel[chosen, layer] == number).flatten()
            if len(rows):
                at = rows.to(x.device, non_blocking=True)
                argument = arguments[chosen[rows], layer].view(-1, 1, 1, 1).to(x.device, non_blocking=True)
                levels.index_copy_(0, at, operation(levels[at], argument))
    return x.index_copy(0, index, levels.float().div_(255))


def _enhancement(level: Tensor, sign: Tensor) -> Tensor:
    return (1 + sign * 0.9 * level).clamp(min=0.1)


def _no_argument(level: Tensor, sign: Tensor) -> Tensor:
    return torch.zeros_like(level)


# The argument of each operation at a level in [0, 1], with a random sign: timm.data.auto_augment.LEVEL_TO_ARG.
_LEVELS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "auto_contrast": _no_argument,
    "equalize": _no_argument,
    "invert": _no_argument,
    "rotate": lambda level, sign: 30 * sign * level,  # degrees, counterclockwise
    "posterize": lambda level, sign: 4 - (4 * level).floor(),  # bits that are kept
    "solarize": lambda level, sign: 256 - (256 * level).floor(),  # threshold
    "solarize_add": lambda level, sign: (110 * level).floor(),
    "color": _no_argument,
    "contrast": _enhancement,
    "brightness": _enhancement,
    "sharpness": _enhancement,
    "shear_x": lambda level, sign: 0.3 * sign * level,  # tangent
    "shear_y": lambda level, sign: 0.3 * sign * level,
    "translate_x": lambda level, sign: 0.45 * sign * level,  # share of the side
    "translate_y": lambda level, sign: 0.45 * sign * level,
}


def _rotation(degrees: Tensor) -> Tensor:
    angle = torch.deg2rad(degrees)
    return _map({(0, 0): angle.cos(), (0, 1): -angle.sin(), (1, 0): angle.sin(), (1, 1): angle.cos()}, degrees)


def _map(entries: dict[tuple[int, int], Tensor], like: Tensor) -> Tensor:
    """float[B, 3, 3]: the identity with some entries replaced."""
    matrix = torch.eye(3).repeat(len(like), 1, 1)
    for (row, column), values in entries.items():
        matrix[:, row, column] = values
    return matrix


# Output to input coordinates. Shears keep the top left corner, as timm's and torchvision's.
_GEOMETRY: dict[str, Callable[[Tensor], Tensor]] = {
    "rotate": _rotation,
    "shear_x": lambda tangent: _map({(0, 1): tangent, (0, 2): tangent}, tangent),
    "shear_y": lambda tangent: _map({(1, 0): tangent, (1, 2): tangent}, tangent),
    "translate_x": lambda share: _map({(0, 2): 2 * share}, share),  # the image is 2 wide
    "translate_y": lambda share: _map({(1, 2): 2 * share}, share),
}


def _auto_contrast(levels: Tensor, _: Tensor) -> Tensor:
    from torchvision.transforms.v2.functional import autocontrast_image  # takes seconds to import

    changed: Tensor = autocontrast_image(levels)
    return changed


def _equalize(levels: Tensor, _: Tensor) -> Tensor:
    from torchvision.transforms.v2.functional import equalize_image

    changed: Tensor = equalize_image(levels)
    return changed


def _posterize(levels: Tensor, bits: Tensor) -> Tensor:
    step = torch.exp2(8 - bits)
    return (levels.float().div(step).floor_() * step).to(torch.uint8)


def _solarize_add(levels: Tensor, addend: Tensor) -> Tensor:
    return torch.where(levels < 128, (levels + addend).clamp_(max=255).to(torch.uint8), levels)


def _blend(levels: Tensor, other: Tensor, factor: Tensor) -> Tensor:
    """`factor` of the image and the rest of the other one."""
    return torch.lerp(other, levels.float(), factor).clamp_(0, 255).to(torch.uint8)


def _contrast(levels: Tensor, factor: Tensor) -> Tensor:
    return _blend(levels, levels.float().mean(dim=(2, 3), keepdim=True), factor)


def _sharpness(levels: Tensor, factor: Tensor) -> Tensor:
    """A blend with a slightly smoothed image; pixels at the edges stay as they are."""
    smooth = torch.full((1, 1, 3, 3), 1 / 13, device=levels.device)
    smooth[0, 0, 1, 1] = 5 / 13
    changed = levels.float()
    changed[:, :, 1:-1, 1:-1] = F.conv2d(changed, smooth).round_()
    return _blend(levels, changed, factor)


PIXEL_OPERATIONS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "auto_contrast": _auto_contrast,
    "equalize": _equalize,
    "invert": lambda levels, _: 255 - levels,
    "posterize": _posterize,
    "solarize": lambda levels, threshold: torch.where(levels >= threshold, 255 - levels, levels),
    "solarize_add": _solarize_add,
    "contrast": _contrast,
    "brightness": lambda levels, factor: (levels * factor).clamp_(0, 255).to(torch.uint8),
    "sharpness": _sharpness,
}
_PIXEL_NAMES = list(PIXEL_OPERATIONS)
