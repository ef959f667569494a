"""CheXVision: train, publish and explain chest X-ray classifiers on free cloud GPUs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"
__all__ = ["CheXVision", "__version__"]

if TYPE_CHECKING:
    from chexvision.models.classifier import CheXVision


def __getattr__(name: str) -> Any:
    # The model needs torch, which a laptop that only dispatches does not have.
    if name == "CheXVision":
        from chexvision.models.classifier import CheXVision

        return CheXVision
    raise AttributeError(f"module 'chexvision' has no attribute {name!r}")
