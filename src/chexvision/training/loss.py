"""The dual-head loss: weighted BCE (or focal) over the findings, and BCE over normal/abnormal."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from chexvision.config.recipe import LossConfig


def pos_weight(targets: NDArray[np.float32], power: float, cap: float) -> Tensor:
    """How much more a positive is weighted than a negative, from the training split.

    Args:
        targets: float[N, C] in [0, 1]; NaN is not counted.
        power: exponent on negatives / positives in [0, 1]; 0 weights them equally.
        cap: the largest weight; a finding without positives gets it too.

    Returns:
        float[C], between 1 / cap and cap.
    """
    positives = np.nansum(targets, axis=0, dtype=np.float64)
    known = (~np.isnan(targets)).sum(axis=0)
    ratio = (known - positives) / np.maximum(positives, 1e-9)
    weights = np.maximum(ratio, 1e-9) ** power
    return torch.from_numpy(np.clip(weights, 1 / cap, cap)).float()


class DualHeadLoss(nn.Module):
    """multilabel_weight · L(findings) + binary_weight · BCE(normal/abnormal), one value per image.

    Unknown targets contribute 0, as in CheXpert's U-Ignore: each known label has the same weight, however many are
    unknown in its image. The focal alternative is that of Lin et al., "Focal Loss for Dense Object Detection",
    ICCV 2017.

    Args:
        config: of the recipe.
        positive_weights: float[K], from `pos_weight`.
    """

    positive_weights: Tensor

    def __init__(self, config: LossConfig, positive_weights: Tensor) -> None:
        super().__init__()
        self.config = config
        self.register_buffer("positive_weights", positive_weights)

    def forward(self, logits: dict[str, Tensor], targets: Tensor) -> Tensor:
        """Loss of each image.

        Args:
            logits: the model's output, [B, K] and [B, 1].
            targets: float[B, K + 1] in [0, 1] or NaN for unknown: the findings, then normal/abnormal.

        Returns:
            float[B].
        """
        config = self.config
        known = ~targets.isnan()
        # Negatives stay 0: raised, they would add more mass to a rare finding than its positives have.
        smooth = targets.nan_to_num(0.0) * (1 - config.label_smoothing)
        findings = logits["multilabel_logits"].float()
        binary = logits["binary_logits"].float()
        multilabel = F.binary_cross_entropy_with_logits(
            findings, smooth[:, :-1], pos_weight=self.positive_weights, reduction="none"
        )
        if config.name == "focal":
            probability = findings.sigmoid()
            wrongness = (smooth[:, :-1] - probability).abs()
            multilabel = multilabel * wrongness**config.focal_gamma
        abnormal = F.binary_cross_entropy_with_logits(binary, smooth[:, -1:], reduction="none")
        multilabel = multilabel.where(known[:, :-1], 0.0)
        abnormal = abnormal.where(known[:, -1:], 0.0)
        return config.multilabel_weight * multilabel.mean(dim=1) + config.binary_weight * abnormal.squeeze(1)
