"""The worst mistakes of an evaluation: which images they are, and how the report shows them."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from chexvision.evaluation.outcome import Outcome
from chexvision.images.radiograph import resize_area
from chexvision.labels import ABNORMAL

THUMBNAIL = 160  # longest side in pixels
_EACH = 3  # of false positives and of false negatives, by output


@dataclass(frozen=True, slots=True)
class DrawnMaps:
    """Maps of the regions that raise an output, drawn over thumbnails of the worst mistakes.

    Args:
        method: "Grad-CAM", "LayerCAM", or both.
        bar: the colors from 0 to the scale, uint8[h, w, 3], RGB.
        highest: by output and image, the highest value, which has the last color; in units of the logit.
        overlays: by output and image, uint8[S, S, 3], RGB.
    """

    method: str
    bar: NDArray[np.uint8]
    highest: dict[tuple[int, int], float]
    overlays: dict[tuple[int, int], NDArray[np.uint8]]


def worst_mistakes(outcome: Outcome) -> dict[int, list[int]]:
    """By output, the negatives with the highest probabilities and the positives with the lowest.

    Outputs whose known labels are all of one kind are left out.
    """
    calibrated, worst = outcome.main.calibrated, {}
    for i in range(len(calibrated.names)):
        scores, targets = calibrated.probabilities[:, i], calibrated.targets[:, i]
        order = np.argsort(scores, kind="stable")
        negatives = [int(at) for at in order[::-1] if targets[at] == 0][:_EACH]
        positives = [int(at) for at in order if targets[at] == 1][:_EACH]
        if negatives and positives:
            worst[i] = [*negatives, *positives]
    return worst


def thumbnail(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """An image uint8[S, S] at the size that the report shows; smaller ones are not enlarged."""
    return resize_area(np.ascontiguousarray(image), min(THUMBNAIL, image.shape[0]))


def figures(outcome: Outcome, output: int, images: list[int], maps: DrawnMaps | None) -> Iterator[dict[str, Any]]:
    """What the report's template shows of each mistake."""
    found = outcome.main.calibrated
    for at in images:
        named = zip(found.names, found.targets[at], strict=True)
        labels = [name for name, target in named if target == 1 and name != ABNORMAL]
        drawn = maps.overlays.get((output, at)) if maps is not None else None
        yield {
            "thumbnail": data_uri(thumbnail(outcome.images[0][at])),
            "map": None if drawn is None else data_uri(drawn),
            "highest": maps.highest[output, at] if maps is not None and drawn is not None else None,
            "filename": str(found.filenames[at]),
            "probability": float(found.probabilities[at, output]),
            "label": "yes" if found.targets[at, output] == 1 else "no",
            "findings": ", ".join(labels) or "no known finding",
        }


def data_uri(pixels: NDArray[np.uint8]) -> str:
    """uint8[H, W], or uint8[H, W, 3] RGB, as a JPEG within a page."""
    ordered = cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR) if pixels.ndim == 3 else pixels
    done, data = cv2.imencode(".jpg", ordered, [cv2.IMWRITE_JPEG_QUALITY, 82])
    if not done:
        raise ValueError("OpenCV could not encode a thumbnail")
    return f"data:image/jpeg;base64,{base64.b64encode(data.tobytes()).decode()}"
