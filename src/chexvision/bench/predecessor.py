"""The training loop of the system before this one, as an independent baseline of recipes.

Written out plainly, with its settings: AdamW 1e-3 with weight decay 1e-4 on every parameter, a cosine over all epochs
without warm-up, batches of 32, positives weighted by negatives / positives without a cap, label smoothing 0.1, flips
and rotations of up to 10 degrees, gradients clipped to a norm of 1, no average of the weights, and the epoch with the
best validation macro AUROC (`arudaev/chexvision` on GitHub: ``src/training/trainer.py``, ``configs/scratch.yaml``).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from accelerate import Accelerator
from torch import Tensor, nn
from torchvision.transforms import v2

from chexvision.data.dataset import Split
from chexvision.inference.labeled import labeled
from chexvision.inference.predict_split import predict_split
from chexvision.metrics.measure import measure
from chexvision.models.classifier import CheXVision

EPOCHS = 10
_BATCH = 32
_LR = 1e-3
_WEIGHT_DECAY = 1e-4
_SMOOTHING = 0.1
_BINARY_WEIGHT = 0.5
_CLIP_NORM = 1.0
_ROTATE_DEGREES = 10


@dataclass(frozen=True, slots=True)
class Trained:
    """The end of a baseline run, whose model has the last epoch's weights.

    Args:
        best: the weights of the best epoch.
        epoch: which, from 1.
        validation_auroc: its macro AUROC.
    """

    best: dict[str, Tensor]
    epoch: int
    validation_auroc: float


def train_baseline(
    model: CheXVision, train: Split, validation: Split, accelerator: Accelerator, seed: int, epochs: int = EPOCHS
) -> Trained:
    """Train `model`, which keeps the last epoch's weights.

    Args:
        model: untrained.
        train: the split to learn from; its images are in memory or memory-mapped.
        validation: the split that chooses the epoch.
        accelerator: gives device and precision.
        seed: of the order, the augmentation and dropout.
        epochs: to train.
    """
    torch.manual_seed(seed)
    images, targets = torch.from_numpy(np.array(train.images)), torch.from_numpy(train.targets)
    model.to(accelerator.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    optimizer = torch.optim.AdamW(model.parameters(), lr=_LR, weight_decay=_WEIGHT_DECAY)
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=epochs)
    positives = targets[:, :-1].sum(dim=0)
    pos_weight = ((len(targets) - positives) / positives.clamp(min=1)).to(accelerator.device)
    augmented = v2.Compose([v2.RandomHorizontalFlip(), v2.RandomRotation(_ROTATE_DEGREES)])
    trained: Trained | None = None
    for epoch in range(1, epochs + 1):
        model.train()
        for index in torch.split(torch.randperm(len(images)), _BATCH):
            if len(index) < 2:  # batch norms have no statistics of one image
                continue
            batch = torch.stack([augmented(image[None])[0] for image in images[index]])
            target = targets[index].to(accelerator.device) * (1 - _SMOOTHING) + _SMOOTHING / 2
            with accelerator.autocast():
                logits = model(model.normalize(batch.to(accelerator.device)))
            findings = F.binary_cross_entropy_with_logits(
                logits["multilabel_logits"].float(), target[:, :-1], pos_weight=pos_weight
            )
            abnormal = F.binary_cross_entropy_with_logits(logits["binary_logits"].float(), target[:, -1:])
            optimizer.zero_grad()
            accelerator.backward(findings + _BINARY_WEIGHT * abnormal)
            nn.utils.clip_grad_norm_(model.parameters(), _CLIP_NORM)
            optimizer.step()
        scheduler.step()
        model.eval()
        probabilities = predict_split(model, validation, accelerator, _BATCH)[0]
        auroc = measure(labeled(validation.rows, probabilities), fewest=1).macro_auroc or 0.0
        if trained is None or auroc > trained.validation_auroc:
            trained = Trained({name: of.clone() for name, of in model.state_dict().items()}, epoch, auroc)
    if trained is None:
        raise ValueError("epochs must be 1 or more")
    return trained
