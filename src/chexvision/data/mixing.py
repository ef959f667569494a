"""mixup and CutMix: each image mixed with its predecessor in the effective batch, its targets in the same shares.

Zhang et al., "mixup: Beyond Empirical Risk Minimization", ICLR 2018; Yun et al., "CutMix: Regularization Strategy to
Train Strong Classifiers with Localizable Features", ICCV 2019. The batch is in random order, so the predecessor is a
random other image; that it is the same one however the batch is divided makes results independent of the division.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from chexvision.config.data_config import AugmentConfig
from chexvision.seeds import mix_seed


@dataclass(frozen=True, slots=True)
class Mix:
    """How the images of one optimization step are mixed.

    Args:
        share: of the image itself in [0, 1]; its predecessor has the rest.
        center: for CutMix, of the box that the predecessor fills, as shares of height and width; None for mixup.
    """

    share: float
    center: tuple[float, float] | None = None

    def box(self, height: int, width: int) -> tuple[slice, slice] | None:
        """CutMix's rows and columns of an image, cut off at its edges; None for mixup."""
        if self.center is None:
            return None
        half = 0.5 * math.sqrt(1 - self.share)
        return _span(self.center[0], half, height), _span(self.center[1], half, width)


def _span(center: float, half: float, side: int) -> slice:
    middle, reach = int(center * side), int(half * side)
    return slice(max(0, middle - reach), min(side, middle + reach))


def mixes(config: AugmentConfig) -> bool:
    """Whether a recipe mixes images."""
    return (config.mixup_alpha > 0 or config.cutmix_alpha > 0) and config.mix_probability > 0


def sample_mix(config: AugmentConfig, seed: int) -> Mix | None:
    """How the step of `seed` is mixed, None for not at all. With both mixup and CutMix each has every second step."""
    if not mixes(config):
        return None
    generator = np.random.default_rng(mix_seed(seed, 3))
    mixed_step, cuts = generator.random() < config.mix_probability, generator.random() < 0.5
    if not mixed_step:
        return None
    if config.cutmix_alpha and (cuts or not config.mixup_alpha):
        share = generator.beta(config.cutmix_alpha, config.cutmix_alpha)
        return Mix(share, (generator.random(), generator.random()))
    return Mix(generator.beta(config.mixup_alpha, config.mixup_alpha))


def mixed(images: Tensor, targets: Tensor, mix: Mix | None) -> tuple[Tensor, Tensor]:
    """Mix each image but the first with the one before it.

    Args:
        images: float[B + 1, C, H, W].
        targets: float[B + 1, K] in [0, 1] or NaN for unknown.
        mix: of the step; None leaves the images as they are.

    Returns:
        float[B, C, H, W] and float[B, K]. A target that is unknown in either image is unknown, unless that image's
        share is 0.
    """
    if mix is None:
        return images[1:], targets[1:]
    share, box = mix.share, mix.box(*images.shape[2:])
    if box is None:
        pixels = torch.lerp(images[:-1], images[1:], share)
    else:
        rows, columns = box
        # Of full pixels within the image: the targets follow what is seen.
        share = 1 - (rows.stop - rows.start) * (columns.stop - columns.start) / math.prod(images.shape[2:])
        pixels = images[1:].clone(memory_format=torch.contiguous_format)
        pixels[:, :, rows, columns] = images[:-1, :, rows, columns]
    if share in (0, 1):
        return pixels, targets[1:] if share else targets[:-1]
    return pixels, torch.lerp(targets[:-1], targets[1:], share)
