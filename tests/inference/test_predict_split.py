from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import torch
from torch import Tensor

from chexvision.images.preprocessing import Preprocessing
from chexvision.inference.predict_split import predict_paths
from chexvision.models.classifier import CheXVision
from chexvision.training.hardware import start_accelerator
from tests.training import runs


def test_views_are_made_in_fp32_for_any_network_precision(tmp_path: Path) -> None:
    assert runs  # registers the tiny backbone
    model = CheXVision(backbone="tiny", hidden_features=0, preprocessing=Preprocessing(image_size=32)).eval()
    path = tmp_path / "a.png"
    cv2.imwrite(str(path), np.random.default_rng(0).integers(0, 255, (40, 40), np.uint8))
    halves: list[bool] = []

    def view(images: Tensor) -> Tensor:
        halves.append(torch.is_autocast_enabled("cpu"))
        return images

    def before(*_: object) -> None:
        halves.append(torch.is_autocast_enabled("cpu"))

    model.backbone.register_forward_pre_hook(before)
    predict_paths(model, [path], start_accelerator("bf16"), 1, (view,))
    assert halves == [False, True]
