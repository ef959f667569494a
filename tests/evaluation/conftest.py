"""Synthetic shards with the smallest models, and generated predictions."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from chexvision.labels import NIH
from chexvision.metrics.predictions import Predictions
from chexvision.metrics.records import IntervalMethod

METHOD = IntervalMethod(resamples=200, seed=0)


def random_predictions(
    images: int = 400, patients: int = 150, seed: int = 0, effect: float = 0.6, names: tuple[str, ...] = NIH.outputs
) -> Predictions:
    """Informative predictions in which the images of a patient are correlated."""
    rng = np.random.default_rng(seed)
    patient = np.sort(rng.integers(0, patients, images))
    targets = (rng.random((images, len(names))) < 0.25).astype(np.float64)
    logits = (
        1.2 * targets + effect * rng.normal(size=(patients, len(names)))[patient] + rng.normal(size=targets.shape)
    )
    filenames = np.array([f"{p + 1:08d}_{i:03d}.png" for i, p in enumerate(patient)])
    return Predictions(names, filenames, patient.astype(np.int64) + 1, 1 / (1 + np.exp(1 - logits)), targets)


@pytest.fixture(scope="session")
def synthetic_shards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from chexvision.synthetic.synthesize import synthesize

    out = tmp_path_factory.mktemp("synthetic") / "shards"
    synthesize(out, images=150, seed=3, size=32, encoding="png", shard_bytes=10**8, workers=2, overwrite=False)
    return out


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Callable[[int], Path]:
    """Makes folders with an untrained model of a seed."""
    import torch

    from chexvision.images.preprocessing import Preprocessing
    from chexvision.models.classifier import CheXVision

    folder = tmp_path_factory.mktemp("models")

    def make(seed: int) -> Path:
        out = folder / f"model{seed}"
        if not out.exists():
            torch.manual_seed(seed)
            CheXVision(
                backbone="se_resnet34", hidden_features=0, preprocessing=Preprocessing(image_size=32)
            ).save_pretrained(out)
        return out

    return make


def image_index(predictions: Predictions) -> NDArray[np.int64]:
    """Every image as a separate patient."""
    return np.arange(len(predictions), dtype=np.int64)
