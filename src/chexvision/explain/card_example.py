"""The overlay in the card of a model that was trained on synthetic images."""

from __future__ import annotations

import io

import cv2
import numpy as np
from numpy.typing import NDArray

from chexvision.artifact.load import Ensemble
from chexvision.data.joined_images import JoinedImages
from chexvision.explain.overlay import render_overlay
from chexvision.inference.member_maps import explain_members
from chexvision.labels import ABNORMAL
from chexvision.metrics.predictions import Predictions
from chexvision.models.classifier import CheXVision

_QUALITY = 85  # of the JPEG; 86 kB for an image of the demo


def example_overlay(
    model: CheXVision, predictions: Predictions, images: NDArray[np.uint8] | JoinedImages
) -> bytes | None:
    """A JPEG of the finding that the model is most certain of among those that are present; None where none is.

    Only of synthetic images: a radiograph is of a patient, and does not belong into a card.

    Args:
        model: on the device to use.
        predictions: of these images, calibrated.
        images: uint8[N, S, S], as the model takes them.
    """
    columns = [i for i, name in enumerate(predictions.names) if name != ABNORMAL]
    present = predictions.targets[:, columns] == 1
    if not present.any():
        return None
    scores = np.where(present, predictions.probabilities[:, columns], -1.0)
    image, column = np.unravel_index(int(scores.argmax()), scores.shape)
    output = columns[int(column)]
    grey = np.array(images[int(image)])
    _, maps = explain_members(Ensemble((model,)), [grey[None]], np.array([[output]]))
    heat = np.asarray(cv2.resize(maps.values[0, 0], grey.shape[::-1]), np.float32)
    title = f"{predictions.names[output]}  {predictions.probabilities[image, output]:.3f}"
    note = f"{maps.method}: regions that raise the logit. Research only."
    overlay = render_overlay(grey, heat, float(heat.max()), title, "a synthetic image", note)
    file = io.BytesIO()
    overlay.save(file, format="JPEG", quality=_QUALITY)
    return file.getvalue()
