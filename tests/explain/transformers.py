"""Transformers of a few thousand parameters, and one that has learned to find a patch."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from timm.models.eva import Eva
from timm.models.swin_transformer import SwinTransformer
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor

from chexvision.backbones import BACKBONES, BackboneFacts
from chexvision.config.data_config import ClaheConfig
from chexvision.config.recipe import Pooling
from chexvision.images.preprocessing import Preprocessing
from chexvision.models.classifier import CheXVision
from chexvision.models.timm_backbone import TimmBackbone

SIDE = 32
PATCH = 4
WIDTH = 32


def tiny_vit(image_size: int, drop_path: float) -> TimmBackbone:
    """A class token and 8x8 patch tokens; heads see the class token."""
    return TimmBackbone(
        VisionTransformer(img_size=image_size, patch_size=PATCH, embed_dim=WIDTH, depth=3, num_heads=2, mlp_ratio=2)
    )


def tiny_eva(image_size: int, drop_path: float) -> TimmBackbone:
    """A class token and 8x8 patch tokens; heads see the mean of the patch tokens."""
    return TimmBackbone(
        Eva(img_size=image_size, patch_size=PATCH, embed_dim=WIDTH, depth=3, num_heads=2, mlp_ratio=2)
    )


def tiny_swin(image_size: int, drop_path: float) -> TimmBackbone:
    """Two stages of windows; maps have the channels last, 8x8 and 4x4 cells."""
    return TimmBackbone(
        SwinTransformer(
            img_size=image_size, patch_size=PATCH, embed_dim=WIDTH, depths=(1, 1), num_heads=(2, 2), window_size=4,
        )
    )  # fmt: skip


for build in (tiny_vit, tiny_eva, tiny_swin):
    BACKBONES[build.__name__] = BackboneFacts(builder=f"{__name__}:{build.__name__}")


def transformer(name: str, pooling: Pooling = "network", side: int = SIDE) -> CheXVision:
    """An untrained model of one of the networks above, in evaluation mode."""
    torch.manual_seed(0)
    return CheXVision(
        backbone=name,
        hidden_features=0,
        dropout=0,
        preprocessing=Preprocessing(
            image_size=side, clahe=ClaheConfig(enabled=False, clip_limit=2.0, tiles=8), mean=0.5, std=0.25
        ),
        pooling=pooling,
    ).eval()


def planted(count: int, seed: int) -> tuple[Tensor, Tensor, Tensor]:
    """Noise with a black square in each image, and a white one in half of them, of 2x2 patches.

    Returns:
        Images uint8[count, SIDE, SIDE], whether each has a white square float[count], and its first row and column
        int[count, 2] in patches.
    """
    random = torch.Generator().manual_seed(seed)
    images = torch.randint(64, 192, (count, SIDE, SIDE), generator=random)
    present = torch.arange(count) % 2 == 0
    corners = torch.randint(0, SIDE // PATCH - 1, (2, count, 2), generator=random)
    for gray, places, every in ((0, corners[0], 1), (255, corners[1], 2)):
        for image, (row, column) in zip(images[::every], places[::every].tolist(), strict=True):
            image[PATCH * row : PATCH * (row + 2), PATCH * column : PATCH * (column + 2)] = gray
    return images.to(torch.uint8), present.float(), corners[1]


def taught(model: CheXVision, steps: int) -> CheXVision:
    """`model` after learning which images of `planted` have a white square, as its first finding."""
    images, present, _ = planted(512, seed=1)
    optimizer = torch.optim.AdamW(model.train().parameters(), lr=1.5e-3)
    random = torch.Generator().manual_seed(1)
    for _ in range(steps):
        index = torch.randint(0, len(images), (32,), generator=random)
        logits = model(model.normalize(images[index]))["multilabel_logits"][:, 0]
        loss = F.binary_cross_entropy_with_logits(logits, present[index])
        optimizer.zero_grad()
        torch.autograd.backward(loss)
        optimizer.step()
    return model.eval()
