"""`model.safetensors` of a model, checked before it is used."""

from __future__ import annotations

import re
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from chexvision.errors import ChexError


def load_weights(model: nn.Module, path: Path, device: str = "cpu") -> None:
    """Load a safetensors file into `model`, which it must fit exactly.

    Raises:
        ChexError: the file is damaged or not safetensors, its tensors are not those of the model, or a value is not
            finite.
    """
    try:
        weights = load_file(path, device=device)
    except (SafetensorError, OSError, ValueError) as error:
        detail = " ".join(str(error).split())[:200]
        raise ChexError(
            f"{path} is not a complete safetensors file ({detail}); fetch it again. Weights are never unpickled"
        ) from None
    weights = with_todays_names(weights)
    problem = _misfit(model.state_dict(), weights)
    if problem is not None:
        raise ChexError(f"{path} does not contain this model's weights: {problem}")
    model.load_state_dict(weights)
    for name, value in model.state_dict().items():
        if not bool(torch.isfinite(value).all()):
            raise ChexError(f"{path} contains values that are not finite, first in {name}: the weights are damaged")


def with_todays_names(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """Tensors of DenseNet-121 as models of torchvision's named them, with today's names; others as they are."""
    if "backbone.denseblock1.denselayer1.conv1.weight" not in weights:
        return weights
    return {re.sub(r"^backbone\.", "backbone.network.features.", name): value for name, value in weights.items()}


def _misfit(wanted: dict[str, Tensor], given: dict[str, Tensor]) -> str | None:
    for names, problem in (
        (wanted.keys() - given.keys(), "is missing"),
        (given.keys() - wanted.keys(), "is unknown"),
    ):
        if names:
            more = f" (and {len(names) - 1} more)" if len(names) > 1 else ""
            return f"{min(names)[:100]}{more} {problem}"
    for name, tensor in wanted.items():
        if given[name].shape != tensor.shape:
            return f"{name} has shape {list(given[name].shape)}, expected {list(tensor.shape)}"
        if given[name].is_complex() or given[name].is_floating_point() != tensor.is_floating_point():
            return f"{name} has type {given[name].dtype}, expected {tensor.dtype}"
    return None
