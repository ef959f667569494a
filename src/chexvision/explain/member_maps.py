"""Maps of an ensemble: the weighted mean of its members' maps, each made from the image as that member takes it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from chexvision.artifact.load import Ensemble
from chexvision.explain.gradcam import Maps, enlarge, explain_batch
from chexvision.models.classifier import CheXVision


@dataclass(frozen=True, slots=True)
class MemberMaps:
    """The outputs of an ensemble for B images, and maps of the regions that raise them.

    Args:
        parts: of each member, which all explain the same outputs.
        weights: of the members.
    """

    parts: tuple[Maps, ...]
    weights: tuple[float, ...]

    @property
    def probabilities(self) -> Tensor:
        """float[B, K + 1]: the weighted mean of the members' raw probabilities."""
        return _mean([part.probabilities for part in self.parts], self.weights)

    @property
    def outputs(self) -> Tensor:
        """int[B, M]: which outputs the maps of each image explain."""
        return self.parts[0].outputs

    @property
    def method(self) -> str:
        """ "Grad-CAM", "LayerCAM", or both where members differ."""
        return " and ".join(sorted({part.method for part in self.parts}))

    def heat(self, image: int, number: int, height: int, width: int) -> NDArray[np.float32]:
        """Map `number` of `image`, enlarged to float[height, width] in [0, 1]."""
        maps = [enlarge(part.maps[image, number][None, None].cpu(), height, width)[0, 0] for part in self.parts]
        return _mean(maps, self.weights).numpy()


def explain_members(
    ensemble: Ensemble, pixels: Sequence[NDArray[np.uint8]], choose: Callable[[Tensor], Tensor]
) -> MemberMaps:
    """Classify images and explain some outputs of each, as `explain_batch` does for one model.

    Args:
        ensemble: on the device to use.
        pixels: for each member, the images as it takes them: uint8[B, S, S].
        choose: which outputs to explain: from the mean raw probabilities float[B, K + 1] to int[B, M].

    Raises:
        ChexError: a member computes something that is not a number.
    """
    inputs = [_input(member, of) for member, of in zip(ensemble.members, pixels, strict=True)]
    if len(inputs) == 1:
        return MemberMaps((explain_batch(ensemble.members[0], inputs[0], choose),), ensemble.weights)
    with torch.inference_mode():
        alone = [_probabilities(member(of)) for member, of in zip(ensemble.members, inputs, strict=True)]
    chosen = choose(_mean(alone, ensemble.weights))
    parts = [explain_batch(member, of, lambda _: chosen) for member, of in zip(ensemble.members, inputs, strict=True)]
    return MemberMaps(tuple(parts), ensemble.weights)


def _input(member: CheXVision, pixels: NDArray[np.uint8]) -> Tensor:
    return member.normalize(torch.from_numpy(pixels).to(next(member.parameters()).device))


def _probabilities(logits: dict[str, Tensor]) -> Tensor:
    return torch.cat([logits["multilabel_logits"], logits["binary_logits"]], dim=1).sigmoid()


def _mean(values: Sequence[Tensor], weights: Sequence[float]) -> Tensor:
    return torch.stack([weight * value for weight, value in zip(weights, values, strict=True)]).sum(dim=0)
