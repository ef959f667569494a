"""Models with random weights that can be exported within seconds."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from chexvision.config.data_config import ClaheConfig
from chexvision.config.recipe import Pooling
from chexvision.export.export_model import export_model
from chexvision.images.preprocessing import Preprocessing
from chexvision.labels import NIH
from chexvision.metrics.calibration import Calibration, Curve
from chexvision.metrics.operating_points import OperatingPoints
from chexvision.metrics.thresholds import ChosenOn
from chexvision.models.classifier import CheXVision
from chexvision.predict.fit_check import fit_input_check
from chexvision.predict.input_check import FILE as CHECK
from chexvision.predict.input_check import thumbnails
from chexvision.predict.operating_files import save_operating_points
from tests.explain import trained
from tests.present import present

CHOSEN_ON = ChosenOn(dataset="d", split="validation", images=9, images_sha256="0" * 64)
PLATT = Calibration(
    method="platt",
    chosen_on=CHOSEN_ON,
    curves={NIH.outputs[0]: None, **dict.fromkeys(NIH.outputs[1:], Curve(slope=1.7, intercept=-0.6))},
)
ISOTONIC = Calibration(
    method="isotonic",
    chosen_on=CHOSEN_ON,
    curves=dict.fromkeys(NIH.outputs, Curve(x=(0.1, 0.4, 0.45, 0.45, 0.8), y=(0.0, 0.2, 0.2, 0.5, 1.0))),
)


def square_images(count: int) -> NDArray[np.uint8]:
    """Synthetic radiographs uint8[count, 80, 80]."""
    images = [subject.pixels[0] for subject in trained.synthetic_subjects(count, 5)]
    return np.stack([cv2.resize(image, (80, 80)) for image in images]).astype(np.uint8)


def published(
    folder: Path,
    backbone: str,
    side: int,
    calibration: Calibration | None = None,
    pooling: Pooling = "network",
    hidden: int = 8,
    shard_size: int = 80,
) -> Path:
    """A model with random weights, as a run would publish it; its probabilities vary from image to image."""
    torch.manual_seed(3)
    model = CheXVision(
        backbone=backbone,
        hidden_features=hidden,
        preprocessing=Preprocessing(
            shard_size=shard_size, image_size=side, clahe=ClaheConfig(enabled=True, clip_limit=2.0, tiles=8)
        ),
        pooling=pooling,
    ).eval()
    images = np.stack([model.preprocessing.apply(image) for image in square_images(8)])
    with torch.no_grad():
        features = model.neck(model.features(model.normalize(torch.from_numpy(images))))
        for head in (model.multilabel_head, model.binary_head):
            torch.nn.init.normal_(head.weight)
            # Logits vary little: rounding, as of JPEG or int8, would be enlarged as well.
            head.weight.mul_(0.1 / head(features).std(dim=0)[:, None])
            head.bias.copy_(torch.linspace(-1, 1, len(head.bias)) - (head(features) - head.bias).mean(dim=0))
    model.save_pretrained(folder)
    save_operating_points(OperatingPoints(calibration), folder)
    return folder


def write_exported(folder: Path) -> Path:
    """A convolutional model with calibration and input check, exported."""
    published(folder, "small", trained.SIDE, PLATT)
    model = CheXVision.from_pretrained(folder)
    images = np.stack([model.preprocessing.apply(one.pixels[0]) for one in trained.synthetic_subjects(60, seed=4)])
    with torch.no_grad():
        features = model.features(model.normalize(torch.from_numpy(images))).numpy()
    present(fit_input_check(features, thumbnails(images), np.arange(60))).write(folder / CHECK)
    export_model(folder, folder)
    return folder
