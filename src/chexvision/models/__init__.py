"""Backbones, the dual head and the registry. Importing this package does not import torch."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

__all__ = ["CheXVision"]

if TYPE_CHECKING:
    from chexvision.models.classifier import CheXVision


def __getattr__(name: str) -> Any:
    # `registry` is read on laptops without torch; only the model itself needs it.
    if name == "CheXVision":
        from chexvision.models.classifier import CheXVision

        return CheXVision
    raise AttributeError(f"module 'chexvision.models' has no attribute {name!r}")
