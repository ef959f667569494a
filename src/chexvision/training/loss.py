"""The dual-head loss: BCE, focal or asymmetric loss over the findings, BCE over normal/abnormal, and distillation."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from chexvision.config.recipe import LossConfig
from chexvision.models.classifier import CheXVision


def pos_weight(
    targets: NDArray[np.float32], power: float, cap: float, taken: NDArray[np.float64] | None = None
) -> Tensor:
    """How much more a positive is weighted than a negative, from the training split.

    Args:
        targets: float[N, C] in [0, 1]; NaN is not counted.
        power: exponent on negatives / positives in [0, 1]; 0 weights them equally.
        cap: the largest weight; a finding without positives gets it too.
        taken: float[N], how often an epoch takes each image; None for once.

    Returns:
        float[C], between 1 / cap and cap.
    """
    if taken is None:
        positives = np.nansum(targets, axis=0, dtype=np.float64)
        known = (~np.isnan(targets)).sum(axis=0)
    else:
        positives = taken @ np.nan_to_num(targets)
        known = taken @ ~np.isnan(targets)
    ratio = (known - positives) / np.maximum(positives, 1e-9)
    weights = np.maximum(ratio, 1e-9) ** power
    return torch.from_numpy(np.clip(weights, 1 / cap, cap)).float()


def detach_unweighted_heads(model: CheXVision, config: LossConfig) -> None:
    """Let a head of weight 0 learn from the features, but the features not from it.

    Its outputs are published too, and must not be those of random weights.
    """
    for head, weight in (
        (model.multilabel_head, config.multilabel_weight),
        (model.binary_head, config.binary_weight),
    ):
        if weight == 0:
            head.register_forward_pre_hook(lambda _, features: tuple(one.detach() for one in features))


class DualHeadLoss(nn.Module):
    """multilabel_weight · L(findings) + binary_weight · BCE(normal/abnormal), one value per image.

    L is BCE, or one of two losses that multiply it by a factor which is small for labels that are predicted well:

    ``focal``: |target − p| ** focal_gamma, through which gradients flow. It is the focal loss of Lin et al., "Focal
    Loss for Dense Object Detection", ICCV 2017, with α 1 for both kinds of labels, and for targets between 0 and 1
    the quality focal loss of Li et al., "Generalized Focal Loss", NeurIPS 2020.

    ``asymmetric``: Ridnik et al., "Asymmetric Loss For Multi-Label Classification", ICCV 2021; see `asymmetric_loss`.

    All of them multiply the loss of positives by `positive_weights`, and take smoothed labels as targets. Unknown
    targets contribute 0, as in CheXpert's U-Ignore: each known label has the same weight, however many are unknown
    in its image.

    A head of weight 0 contributes 0 to the loss, but a gradient to its own weights as if its weight were 1, see
    `detach_unweighted_heads`.

    Distillation (Hinton, Vinyals and Dean, arXiv:1503.02531): where targets contain a teacher's probabilities, the
    loss is (1 − teacher_weight) times that of the labels plus teacher_weight times the BCE, of both heads with their
    weights, with these probabilities as targets. They are neither smoothed nor weighted, and never unknown.

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
            targets: float[B, K + 1] in [0, 1] or NaN for unknown: the findings, then normal/abnormal. Or
                float[B, 2 (K + 1)]: the same, then a teacher's probabilities.

        Returns:
            float[B].
        """
        findings = logits["multilabel_logits"].float()
        binary = logits["binary_logits"].float()
        outputs = findings.shape[1] + 1
        labels, taught = targets[:, :outputs], targets[:, outputs:]
        loss = self._of_labels(findings, binary, labels)
        if not taught.shape[1]:
            return loss
        multilabel = F.binary_cross_entropy_with_logits(findings, taught[:, :-1], reduction="none")
        abnormal = F.binary_cross_entropy_with_logits(binary, taught[:, -1:], reduction="none")
        share = self.config.teacher_weight
        return (1 - share) * loss + share * self._both(multilabel, abnormal)

    def _of_labels(self, findings: Tensor, binary: Tensor, labels: Tensor) -> Tensor:
        config = self.config
        known = ~labels.isnan()
        # Negatives stay 0: raised, they would add more mass to a rare finding than its positives have.
        smooth = labels.nan_to_num(0.0) * (1 - config.label_smoothing)
        target = smooth[:, :-1]
        multilabel = F.binary_cross_entropy_with_logits(
            findings, target, pos_weight=self.positive_weights, reduction="none"
        )
        if config.name == "focal":
            multilabel = multilabel * (target - findings.sigmoid()).abs() ** config.focal_gamma
        elif config.name == "asymmetric":
            multilabel = asymmetric_loss(findings, target, multilabel, self.positive_weights, config)
        abnormal = F.binary_cross_entropy_with_logits(binary, smooth[:, -1:], reduction="none")
        return self._both(multilabel.where(known[:, :-1], 0.0), abnormal.where(known[:, -1:], 0.0))

    def _both(self, multilabel: Tensor, abnormal: Tensor) -> Tensor:
        """The heads' losses [B, K] and [B, 1] together: float[B]."""
        return _weighted(multilabel.mean(dim=1), self.config.multilabel_weight) + _weighted(
            abnormal.squeeze(1), self.config.binary_weight
        )


def _weighted(loss: Tensor, weight: float) -> Tensor:
    """`weight` times the loss; for weight 0 its value is 0, and its gradient that of weight 1."""
    return weight * loss if weight else loss - loss.detach()


def asymmetric_loss(
    logits: Tensor, targets: Tensor, bce: Tensor, positive_weights: Tensor, config: LossConfig
) -> Tensor:
    """The asymmetric loss of each label, float[B, K].

    The probability of a negative is lowered by ``asymmetric_clip`` first: p' = max(p − clip, 0), so one that is
    below costs nothing. Positives are multiplied by (1 − p) ** ``asymmetric_gamma_positive``, negatives by
    p' ** ``asymmetric_gamma_negative``. As in the authors' code by default, the factor is a constant for the
    gradient; a target between 0 and 1 mixes probabilities and exponents: with q = 1 − p', the factor is
    (1 − target · p − (1 − target) · q) ** (target · gamma_positive + (1 − target) · gamma_negative).

    Args:
        logits: float[B, K].
        targets: float[B, K] in [0, 1].
        bce: BCE with logits of these, weighted: what is returned with clip and exponents of 0.
        positive_weights: float[K], multiplies the loss of positives.
        config: exponents and clip.
    """
    probability = logits.sigmoid()
    absent = (-logits).sigmoid()
    if config.asymmetric_clip:
        absent = (absent + config.asymmetric_clip).clamp(max=1)
        bce = -positive_weights * targets * F.logsigmoid(logits) - (1 - targets) * absent.log()
    with torch.no_grad():
        right = targets * probability + (1 - targets) * absent
        gamma = targets * config.asymmetric_gamma_positive + (1 - targets) * config.asymmetric_gamma_negative
        factor = (1 - right).clamp(min=0) ** gamma
    return bce * factor
