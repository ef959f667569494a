"""CheXVision: train, publish and explain chest X-ray classifiers on free cloud GPUs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"
__all__ = ["CheXVision", "__version__", "load_predictor", "load_shards"]

if TYPE_CHECKING:
    from chexvision.data.hf_datasets.load_shards import load_shards
    from chexvision.inference.load_predictor import load_predictor
    from chexvision.models.classifier import CheXVision


def __getattr__(name: str) -> Any:
    # They need packages that a laptop that only dispatches does not have: torch, pyarrow, or numpy and OpenCV.
    if name == "CheXVision":
        from chexvision.models.classifier import CheXVision

        return CheXVision
    if name == "load_predictor":
        from chexvision.inference.load_predictor import load_predictor

        return load_predictor
    if name == "load_shards":
        from chexvision.data.hf_datasets.load_shards import load_shards

        return load_shards
    raise AttributeError(f"module 'chexvision' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
