"""Maps of an evaluation's worst mistakes, for its report."""

from __future__ import annotations

import cv2
import numpy as np

from chexvision.evaluation.outcome import Outcome
from chexvision.explain.overlay import Heat, blend
from chexvision.inference.member_maps import explain_members
from chexvision.progress import Progress
from chexvision.report.mistakes import DrawnMaps, thumbnail, worst_mistakes

_BATCH = 8  # the feature maps of the complete network are held for each
_BAR = (12, 120)  # height and width of the color bar
_MIDDLE = 128  # gray under the color bar


def explain_mistakes(outcome: Outcome) -> DrawnMaps | None:
    """Explain the images that `worst_mistakes` names, each without views.

    Each map has its own scale, which the report gives: the highest values of different images differ several times
    over, and on one scale most maps would not be seen. None where the models predict different findings, whose maps
    cannot be averaged.

    Raises:
        ChexError: a model computes something that is not a number.
    """
    space = outcome.ensemble.label_space
    if any(member.label_space != space for member in outcome.ensemble.members):
        return None
    columns = [space.outputs.index(name) for name in outcome.main.predictions.names]
    wanted = [(output, image) for output, images in worst_mistakes(outcome).items() for image in images]
    heats: dict[tuple[int, int], Heat] = {}
    method = ""
    with Progress("explaining mistakes", len(wanted), "images") as progress:
        for first in range(0, len(wanted), _BATCH):
            batch = wanted[first : first + _BATCH]
            outputs = np.array([[columns[output]] for output, _ in batch])
            pixels = [np.stack([of[image] for _, image in batch]) for of in outcome.images]
            _, maps = explain_members(outcome.ensemble, pixels, outputs)
            method = maps.method
            for i, one in enumerate(batch):
                side = len(thumbnail(outcome.images[0][one[1]]))
                heats[one] = np.asarray(cv2.resize(maps.values[i, 0], (side, side)), np.float32)
            progress.advance(len(batch))
    highest = {one: float(heat.max()) for one, heat in heats.items()}
    overlays = {
        (output, image): blend(thumbnail(outcome.images[0][image]), heat, highest[output, image])
        for (output, image), heat in heats.items()
    }
    ramp = np.tile(np.linspace(0, 1, _BAR[1], dtype=np.float32), (_BAR[0], 1))
    return DrawnMaps(method, blend(np.full(_BAR, _MIDDLE, np.uint8), ramp, 1.0), highest, overlays)
