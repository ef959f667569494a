"""One or several networks as an engine of predictions: the weighted mean of their probabilities."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from chexvision.errors import ChexError
from chexvision.images.radiograph import Grey
from chexvision.labels import LabelSpace
from chexvision.metrics.operating_points import OperatingPoints
from chexvision.metrics.ranking import Floats
from chexvision.predict.answer import ModelFacts
from chexvision.predict.engine import HeatMaps, Outputs, Prepared, finite
from chexvision.predict.input_check import InputCheck
from chexvision.predict.predictor import Predictor

if TYPE_CHECKING:
    from chexvision.models.classifier import CheXVision

Autocast = Callable[[], AbstractContextManager[object]]
View = Callable[[Tensor], Tensor]  # uint8[B, H, W] to the same images seen otherwise, uint8 or float in [0, 255]


def unchanged(images: Tensor) -> Tensor:
    """The view of the images as they are."""
    return images


PLAIN: tuple[View, ...] = (unchanged,)


@dataclass(frozen=True, slots=True)
class Forward:
    """What a network computes for B images.

    Args:
        probabilities: float[B, K + 1], the mean over the views.
        logits: of the last view, see `CheXVision.forward`.
        features: of the last view, see `CheXVision.features`.
    """

    probabilities: Tensor
    logits: dict[str, Tensor]
    features: Tensor


def forward(model: CheXVision, images: Tensor, views: Sequence[View], autocast: Autocast) -> Forward:
    """Classify the views of uint8[B, S, S], which are made in fp32: half precision would move pixels."""
    total: Tensor | None = None
    for view in views:
        inputs = model.normalize(view(images))
        with autocast():
            features = model.features(inputs)
            logits = model.classify(features)
        both = torch.cat([logits["multilabel_logits"], logits["binary_logits"]], dim=1).float().sigmoid()
        total = both if total is None else total + both
    if total is None:
        raise ValueError("no view to predict")
    return Forward(total / len(views), logits, features)


class NetworkEngine:
    """Networks in evaluation mode on one device, as an `chexvision.predict.engine.Engine`.

    Args:
        members: at least one; all predict the same findings, each prepares images in its own way.
        weights: theirs, summing to 1.
        views: of each member: of the images that its probabilities are averaged over.
        name: what computes them.
        autocast: gives the context of the networks' precision.
        check: the input check; of several members the first one's, measured on what that member computes.
    """

    def __init__(
        self,
        members: Sequence[CheXVision],
        weights: Sequence[float],
        views: Sequence[Sequence[View]],
        name: str = "torch",
        autocast: Autocast = nullcontext,
        check: InputCheck | None = None,
    ) -> None:
        self._members = tuple(zip(members, weights, views, strict=True))
        self._autocast = autocast
        self._check = check
        self._name = name

    @property
    def name(self) -> str:
        """What computes it and where."""
        return self._name

    @property
    def label_space(self) -> LabelSpace:
        """What it predicts."""
        return self._members[0][0].label_space

    def prepare(self, pixels: Grey) -> Prepared:
        """An original uint8[H, W] as each member takes it: uint8[S, S]."""
        steps = [member.preprocessing for member, _, _ in self._members]
        prepared = {one: one.apply(pixels) for one in dict.fromkeys(steps)}  # members that agree share it
        return tuple(prepared[one] for one in steps)

    def pixels(self, batch: Sequence[Prepared]) -> list[NDArray[np.uint8]]:
        """Of each member, the images of a batch: uint8[B, S, S]."""
        return [np.stack([image[i] for image in batch]) for i in range(len(self._members))]

    @torch.inference_mode()
    def run(self, batch: Sequence[Prepared]) -> Outputs:
        """Classify a batch.

        Raises:
            ChexError: a member computes something that is not a number.
        """
        parts: list[Floats] = []
        checks: Floats | None = None
        for (member, weight, views), pixels in zip(self._members, self.pixels(batch), strict=True):
            images = torch.from_numpy(pixels).to(next(member.parameters()).device)
            found = forward(member, images, views, self._autocast)
            if self._check is not None and not parts:
                # Of the image as it is, which other views are not.
                plain = found if len(views) == 1 else forward(member, images, PLAIN, self._autocast)
                features = plain.features.float().cpu().numpy()
                checks = self._check.measure([image[0] for image in batch], features)
            parts.append(weight * finite(found.probabilities.cpu().numpy()))
        return Outputs(np.sum(parts, axis=0), checks)

    def explain(self, batch: Sequence[Prepared], outputs: NDArray[np.int64]) -> HeatMaps:
        """See `chexvision.inference.torch_engine.TorchEngine`, which can."""
        raise ChexError(f"{self.name} does not explain; use chexvision.load_predictor")


def predictor_of(model: CheXVision) -> Predictor:
    """One model with what it was published with; without it, probabilities are raw and there are no thresholds."""
    published = model.published
    if published is None:
        return Predictor(
            NetworkEngine([model], [1.0], [PLAIN]), ModelFacts(model.configuration.backbone), OperatingPoints()
        )
    engine = NetworkEngine([model], [1.0], [PLAIN], check=published.check)
    return Predictor(engine, published.facts, published.points, published.check)
