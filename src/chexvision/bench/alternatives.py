"""The alternatives of the benchmarks: the same work with PyTorch's defaults, DataLoader workers and Pillow."""

from __future__ import annotations

import io
import time
from collections.abc import Generator
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from accelerate import Accelerator
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor, nn
from torchvision.transforms import v2

from chexvision.bench.bench_report import wait_for
from chexvision.config.data_config import ClaheConfig
from chexvision.data.rows import Rows
from chexvision.data.source import ShardSource
from chexvision.images.radiograph import PIXEL_MEAN, PIXEL_STD, decode_grey, make_clahe, resize_area
from chexvision.shards.columns import encoded_images, opened_shard


def pillow_encoder(data: bytes, size: int, mode: Literal["L", "RGB"]) -> bytes:
    """A radiograph as PNG of `size`² by Pillow: grey by area averaging, or RGB by Lanczos as most scripts do."""
    method = Image.Resampling.BOX if mode == "L" else Image.Resampling.LANCZOS
    with Image.open(io.BytesIO(data)) as image:
        small = image.convert(mode).resize((size, size), method)
    stored = io.BytesIO()
    small.save(stored, "PNG")
    return stored.getvalue()


def write_png_files(source: ShardSource, rows: Rows, folder: Path) -> list[Path]:
    """Write each image of `rows` as it is stored to a file."""
    shards = [path for split in source.shards.values() for path in split]
    written: list[Path] = []
    for number in np.unique(rows.shard).tolist():
        with opened_shard(shards[number], str(shards[number])) as shard:
            images = encoded_images(shard.read(columns=["image"]).column("image").combine_chunks())
        for row in rows.row[rows.shard == number].tolist():
            path = folder / f"{len(written):06d}.png"
            path.write_bytes(images[row].as_py())
            written.append(path)
    return written


def usual_transforms() -> v2.Compose:
    """The recipe's augmentation, one image at a time on the CPU."""
    return v2.Compose(
        [
            v2.ToImage(),
            v2.RandomHorizontalFlip(),
            v2.RandomAffine(degrees=15, translate=(0.05, 0.05), scale=(0.9, 1.1), shear=5),
            v2.ColorJitter(brightness=0.2, contrast=0.2),
            v2.RandomApply([v2.GaussianBlur(7, (0.1, 1.5))], p=0.1),
            v2.ToDtype(torch.float32, scale=True),
            v2.Normalize([PIXEL_MEAN], [PIXEL_STD]),
            v2.RandomErasing(p=0.1, scale=(0.02, 0.1)),
        ]
    )


class PngFiles(torch.utils.data.Dataset[Tensor]):
    """Decodes, resizes and equalizes a grey file as training does, and augments it, at each access.

    Args:
        files: PNG.
        size: side in pixels.
        clahe: the same as decode-once applies.
        augmented: whether to augment.
    """

    def __init__(self, files: list[Path], size: int, clahe: ClaheConfig, augmented: bool) -> None:
        self.files = files
        self.size = size
        self.clahe = clahe
        self.transforms = usual_transforms() if augmented else None

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, index: int) -> Tensor:
        """uint8[1, S, S]; augmented, float[1, S, S]."""
        grey = resize_area(decode_grey(self.files[index].read_bytes()), self.size)
        if self.clahe.enabled:
            grey = np.asarray(make_clahe(self.clahe.clip_limit, self.clahe.tiles).apply(grey), np.uint8)
        if self.transforms is None:
            return torch.from_numpy(grey[None])
        image: Tensor = self.transforms(grey[:, :, None])
        return image


def usual_steps(
    model: nn.Module,
    images: NDArray[np.uint8],
    targets: NDArray[np.float32],
    accelerator: Accelerator,
    micro_batch_size: int,
    accumulate: int,
) -> Generator[float]:
    """The usual loop with PyTorch's defaults, in the same precision: no augmentation, no average of the weights.

    Yields:
        the seconds of each optimization step.
    """
    device = accelerator.device
    model = model.to(device).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4)
    scaler = torch.amp.GradScaler(device.type, enabled=accelerator.mixed_precision == "fp16")
    criterion = nn.BCEWithLogitsLoss()
    rng = np.random.default_rng(0)
    torch.backends.cudnn.deterministic = False  # training's `start_accelerator` turns it on
    while True:
        began = time.perf_counter()
        optimizer.zero_grad()
        total = 0.0
        for _ in range(accumulate):
            index = rng.integers(0, len(images), micro_batch_size)
            grey = torch.from_numpy(images[index]).to(device).float().div(255).sub(PIXEL_MEAN).div(PIXEL_STD)
            target = torch.from_numpy(targets[index]).to(device)
            with accelerator.autocast():
                logits = model(grey.unsqueeze(1).expand(-1, 3, -1, -1))
            findings = criterion(logits["multilabel_logits"].float(), target[:, :-1])
            loss = findings + 0.5 * criterion(logits["binary_logits"].float(), target[:, -1:])
            scaler.scale(loss / accumulate).backward()
            total += loss.detach()
        scaler.unscale_(optimizer)
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        scaler.step(optimizer)
        scaler.update()
        float(total)  # the usual loop logs it
        wait_for(device)
        yield time.perf_counter() - began
