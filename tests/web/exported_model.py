"""A small network, published and exported as models are."""

from __future__ import annotations

from pathlib import Path

import torch

from chexvision.export.export_model import export_model
from chexvision.images.preprocessing import Preprocessing
from chexvision.labels import NIH
from chexvision.metrics.calibration import Calibration, Curve
from chexvision.metrics.thresholds import ChosenOn, Thresholds
from chexvision.models.classifier import CheXVision
from tests.explain.trained import SIDE

_ON = ChosenOn(dataset="synthetic", split="validation", images=100, images_sha256="0" * 64)


def write_exported_model(folder: Path) -> Path:
    """Random weights with a calibration and thresholds, and ``onnx/`` of it."""
    torch.manual_seed(0)
    network = CheXVision("small", 0, preprocessing=Preprocessing(shard_size=96, image_size=SIDE))
    for head in (network.multilabel_head, network.binary_head):
        torch.nn.init.normal_(head.weight, std=1.5)  # probabilities that vary from image to image
    network.save_pretrained(folder)
    curves: dict[str, Curve | None] = dict.fromkeys(NIH.outputs, Curve(slope=0.8, intercept=-0.3))
    calibration = Calibration(method="platt", chosen_on=_ON, curves=curves)
    thresholds = Thresholds(
        rule="f1",
        scale="calibrated",
        chosen_on=_ON,
        values=dict.fromkeys(NIH.outputs, 0.45),
        positives=dict.fromkeys(NIH.outputs, 20),
    )
    (folder / "calibration.json").write_text(calibration.model_dump_json(), encoding="utf-8")
    (folder / "thresholds.json").write_text(thresholds.model_dump_json(), encoding="utf-8")
    export_model(folder, folder)
    return folder
