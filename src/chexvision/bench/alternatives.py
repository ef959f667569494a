"""The usual way of doing the same, written down so that both can be measured in one run."""

from __future__ import annotations

import io
import time
from collections.abc import Generator
from functools import partial
from pathlib import Path

import cv2
import numpy as np
import pyarrow.parquet as pq
import torch
from accelerate import Accelerator
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor, nn
from torchvision.transforms import v2

from chexvision.bench.report import wait_for
from chexvision.models.densenet import DenseBlock
from chexvision.radiograph import PIXEL_MEAN, PIXEL_STD


def pillow_encoder(data: bytes, size: int) -> bytes:
    """A radiograph as RGB PNG of `size`², the way most scripts shrink pictures."""
    with Image.open(io.BytesIO(data)) as image:
        small = image.convert("RGB").resize((size, size), Image.Resampling.LANCZOS)
    stored = io.BytesIO()
    small.save(stored, "PNG")
    return stored.getvalue()


def write_png_files(shards: list[Path], folder: Path) -> list[Path]:
    """Unpack shards as many training scripts do: every image decoded and written to a PNG file of its own."""
    written: list[Path] = []
    for shard in shards:
        for image in pq.read_table(shard, columns=["image"]).column("image").to_pylist():
            path = folder / f"{len(written):06d}.png"
            with Image.open(io.BytesIO(image["bytes"])) as picture:
                picture.convert("RGB").save(path)
            written.append(path)
    return written


def usual_transforms(size: int) -> v2.Compose:
    """Augmentation of one image after the other on the CPU."""
    return v2.Compose(
        [
            v2.ToImage(),
            v2.Resize((size, size), antialias=True),
            v2.RandomHorizontalFlip(),
            v2.RandomAffine(degrees=15, translate=(0.05, 0.05), scale=(0.9, 1.1), shear=5),
            v2.ColorJitter(brightness=0.2, contrast=0.2),
            v2.RandomApply([v2.GaussianBlur(7, (0.1, 1.5))], p=0.1),
            v2.ToDtype(torch.float32, scale=True),
            v2.Normalize([PIXEL_MEAN] * 3, [PIXEL_STD] * 3),
            v2.RandomErasing(p=0.1, scale=(0.02, 0.1)),
        ]
    )


class PngFiles(torch.utils.data.Dataset[Tensor]):
    """Decodes a file, equalises it in LAB and augments it, each time it is asked for."""

    def __init__(self, files: list[Path], size: int, augmented: bool) -> None:
        self.files = files
        self.size = size
        self.transforms = usual_transforms(size) if augmented else None

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, index: int) -> Tensor:
        picture = cv2.imread(str(self.files[index]), cv2.IMREAD_COLOR)
        lab = cv2.cvtColor(np.asarray(picture), cv2.COLOR_BGR2LAB)
        lab[:, :, 0] = cv2.createCLAHE(2.0, (8, 8)).apply(lab[:, :, 0])
        rgb = cv2.cvtColor(lab, cv2.COLOR_LAB2RGB)
        if self.transforms is not None:
            image: Tensor = self.transforms(rgb)
            return image
        return torch.from_numpy(cv2.resize(rgb, (self.size, self.size)).transpose(2, 0, 1).copy())


def as_published(model: nn.Module) -> nn.Module:
    """`model` with its dense blocks computed as torchvision does, each joined map kept; the weights are the same."""
    for module in model.modules():
        if isinstance(module, DenseBlock):
            module.forward = partial(_torchvisions_forward, module)  # type: ignore[method-assign]
    return model


def _torchvisions_forward(block: DenseBlock, x: Tensor) -> Tensor:
    maps = [x]
    for layer in block.values():
        maps.append(layer(maps))
    return torch.cat(maps, 1)


def usual_steps(
    model: nn.Module,
    images: NDArray[np.uint8],
    targets: NDArray[np.float32],
    accelerator: Accelerator,
    micro_batch_size: int,
    accumulate: int,
) -> Generator[float]:
    """The usual loop over float batches: contiguous weights, unfused AdamW, the loss read at every micro-batch.

    Yields:
        the seconds of each optimisation step.
    """
    device = accelerator.device
    model = model.to(device, memory_format=torch.contiguous_format).train()  # type: ignore[call-overload]
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, fused=False, foreach=False)
    scaler = torch.amp.GradScaler(device.type, enabled=accelerator.mixed_precision == "fp16")
    criterion = nn.BCEWithLogitsLoss()
    rng = np.random.default_rng(0)
    while True:
        began = time.perf_counter()
        optimizer.zero_grad(set_to_none=False)
        for _ in range(accumulate):
            index = rng.integers(0, len(images), micro_batch_size)
            grey = torch.from_numpy(images[index]).to(device).float().div(255).sub(PIXEL_MEAN).div(PIXEL_STD)
            target = torch.from_numpy(targets[index]).to(device)
            with accelerator.autocast():
                logits = model(grey.unsqueeze(1).repeat(1, 3, 1, 1))
                findings = criterion(logits["multilabel_logits"].float(), target[:, :14])
                loss = findings + 0.5 * criterion(logits["binary_logits"].float(), target[:, 14:])
            scaler.scale(loss / accumulate).backward()
            loss.item()
        scaler.unscale_(optimizer)
        nn.utils.clip_grad_norm_(model.parameters(), 1.0, foreach=False)
        scaler.step(optimizer)
        scaler.update()
        wait_for(device)
        yield time.perf_counter() - began
