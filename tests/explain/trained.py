"""A small backbone, and a model of it that has learned three findings on synthetic images within seconds."""

from __future__ import annotations

import itertools

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from chexvision.backbones import BACKBONES, BackboneFacts
from chexvision.config.data_config import ClaheConfig
from chexvision.explain.audit import Subject
from chexvision.images.preprocessing import Preprocessing
from chexvision.labels import NIH
from chexvision.models.classifier import CheXVision
from chexvision.models.normalize import plain
from chexvision.nih.boxes import Box
from chexvision.synthetic.anatomy import sample_chest
from chexvision.synthetic.render import render_radiograph
from tests.small_backbones import Chain

SIDE = 64
TAUGHT = ("Effusion", "Infiltration", "Consolidation")

BACKBONES["small"] = BackboneFacts(builder="tests.explain.trained:small_backbone")


def small_backbone(image_size: int, drop_path: float) -> Chain:
    """Three convolutions: float[B, 3, H, W] to float[B, 48, H/8, W/8]."""
    widths = (3, 16, 32, 48)
    layers: list[nn.Module] = []
    for inputs, outputs in itertools.pairwise(widths):
        layers += [nn.Conv2d(inputs, outputs, 5, stride=2, padding=2, bias=False), nn.BatchNorm2d(outputs), nn.ReLU()]
    return Chain(*layers, channels=48)


def synthetic_subjects(count: int, seed: int) -> list[Subject]:
    """Images of one finding each, of different patients."""
    subjects = []
    for i in range(count):
        finding = TAUGHT[i % len(TAUGHT)]
        chest = sample_chest(np.random.default_rng([seed, i]), bool(i % 2))
        grey, boxes = render_radiograph(np.random.default_rng([seed, i, 1]), chest, (finding,), "PA", SIDE)
        shares = tuple(Box(b.x / SIDE, b.y / SIDE, (b.x + b.width) / SIDE, (b.y + b.height) / SIDE) for b in boxes)
        subjects.append(Subject(f"{i:08d}_000.png", i, (grey,), {finding: shares}))
    return subjects


def untrained_model() -> CheXVision:
    torch.manual_seed(1)
    preprocessing = Preprocessing(image_size=SIDE, clahe=ClaheConfig(enabled=False, clip_limit=2.0, tiles=8))
    return CheXVision(backbone="small", hidden_features=0, dropout=0, preprocessing=preprocessing).eval()


def trained_model() -> CheXVision:
    """Trained on 480 images of one finding each, with a cross-entropy for every finding."""
    subjects = synthetic_subjects(480, seed=1)
    images = torch.from_numpy(np.stack([subject.pixels[0] for subject in subjects]))
    targets = torch.tensor([[float(name in subject.boxes) for name in NIH.findings] for subject in subjects])
    model = untrained_model().train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=5e-3)
    generator = torch.Generator().manual_seed(1)
    for _ in range(10):
        for index in torch.split(torch.randperm(len(images), generator=generator), 32):
            loss = F.binary_cross_entropy_with_logits(
                model(plain(images[index]))["multilabel_logits"], targets[index]
            )
            optimizer.zero_grad()
            torch.autograd.backward(loss)
            optimizer.step()
    return model.eval()
