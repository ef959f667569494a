"""A published model that answers in a millisecond."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from chexvision.backbones import BACKBONES, BackboneFacts
from chexvision.images.preprocessing import Preprocessing
from chexvision.metrics.calibration import Calibration, Curve
from chexvision.metrics.operating_points import OperatingPoints
from chexvision.metrics.thresholds import ChosenOn, Thresholds
from chexvision.models.classifier import CheXVision
from chexvision.predict.fit_check import fit_input_check
from chexvision.predict.input_check import FILE, thumbnails
from chexvision.predict.operating_files import save_operating_points
from tests.present import present

BACKBONES["tiny"] = BackboneFacts(builder="tests.small_backbones:tiny_backbone")
SIDE = 32
THRESHOLD = 0.3


def points_of(names: Sequence[str], intercept: float = -0.5) -> OperatingPoints:
    """Calibration and thresholds of some outputs; the last finding has no threshold."""
    where = ChosenOn(dataset="d", split="validation", images=3, images_sha256="0" * 64)
    values: dict[str, float | None] = dict.fromkeys(names, THRESHOLD)
    values[names[-2]] = None
    curves: dict[str, Curve | None] = {name: Curve(slope=1.0, intercept=intercept) for name in names}
    return OperatingPoints(
        Calibration(method="platt", chosen_on=where, curves=curves),
        Thresholds(rule="f1", scale="calibrated", chosen_on=where, values=values, positives=dict.fromkeys(names, 1)),
    )


def publish(folder: Path, *, seed: int = 0, bare: bool = False, synthetic: bool = False) -> Path:
    """A model in a folder; a bare one without operating points and records."""
    torch.manual_seed(seed)
    model = CheXVision(backbone="tiny", hidden_features=0, preprocessing=Preprocessing(image_size=SIDE))
    model.save_pretrained(folder)
    if not bare:
        save_operating_points(points_of(model.label_space.outputs), folder)
        (folder / "metrics.json").write_text(json.dumps({"format": 3, "synthetic": synthetic}))
        (folder / "run.json").write_text(json.dumps({"provenance": {"run_id": "tiny-20260101-0000-abcd"}}))
    return folder


def with_input_check(folder: Path) -> Path:
    """The model of a folder, with an input check fitted on random images of its input's size."""
    random = np.random.default_rng(1)
    images = [random.integers(0, 255, (SIDE, SIDE), dtype=np.uint8) for _ in range(60)]
    model = CheXVision.from_pretrained(folder)
    with torch.inference_mode():
        features = model.features(model.preprocess(images)).numpy()
    prepared = [model.preprocessing.apply(image) for image in images]
    present(fit_input_check(features, thumbnails(prepared), np.arange(60))).write(folder / FILE)
    return folder
