"""The overlay in the card of a model of synthetic images."""

from __future__ import annotations

import io

import numpy as np
from PIL import Image

from chexvision.explain.card_example import example_overlay
from chexvision.labels import NIH
from chexvision.metrics.predictions import Predictions
from chexvision.models.classifier import CheXVision
from tests.explain.trained import SIDE


def _predictions(present: list[tuple[int, str]]) -> Predictions:
    """Three images, whose probabilities rise from image to image."""
    names = NIH.outputs
    targets = np.zeros((3, len(names)))
    for image, name in present:
        targets[image, names.index(name)] = 1
    probabilities = np.tile(np.array([[0.2], [0.5], [0.9]]), (1, len(names)))
    files = np.array([f"{i:08d}_000.png" for i in range(3)])
    return Predictions(names, files, np.arange(3), probabilities, targets)


def test_it_shows_the_most_probable_finding_that_is_present(untrained: CheXVision) -> None:
    images = np.random.default_rng(0).integers(0, 255, (3, SIDE, SIDE), dtype=np.uint8)
    made = example_overlay(untrained, _predictions([(0, "Mass"), (1, "Effusion"), (2, "Abnormal")]), images)
    assert made is not None and len(made) < 250_000  # noise is hard to compress
    with Image.open(io.BytesIO(made)) as overlay:
        shown = np.asarray(overlay.convert("L").crop((16, 76, 656, 716)).resize((SIDE, SIDE))).astype(float)
    agreement = [np.corrcoef(shown.ravel(), image.ravel())[0, 1] for image in images]
    assert int(np.argmax(agreement)) == 1 and agreement[1] > 0.9
    again = example_overlay(untrained, _predictions([(0, "Mass"), (1, "Effusion"), (2, "Abnormal")]), images)
    assert again == made


def test_there_is_none_without_findings(untrained: CheXVision) -> None:
    images = np.zeros((3, SIDE, SIDE), np.uint8)
    assert example_overlay(untrained, _predictions([(1, "Abnormal")]), images) is None
