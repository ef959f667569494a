"""`model.safetensors` of a model, checked before it is used."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import TypeVar

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file
from torch import Tensor, nn

from chexvision.errors import ChexError

T = TypeVar("T")


def check_sizes(model: nn.Module, path: Path) -> None:
    """Check the names and shapes in the header of a safetensors file, before memory for a network is allocated.

    Args:
        model: of which the file should be; on the meta device.
        path: the file.

    Raises:
        ChexError: the file is damaged or not safetensors, or its tensors are not those of the model.
    """
    try:
        with safe_open(path, framework="pt") as opened:
            names = opened.keys()
            given = with_todays_names({name: tuple(opened.get_slice(name).get_shape()) for name in names})
    except (SafetensorError, OSError, ValueError) as error:
        raise _damaged(path, error) from None
    problem = _other_shapes(_shapes(model.state_dict()), given)
    if problem is not None:
        raise _of_another_model(path, problem)


def load_weights(model: nn.Module, path: Path, device: str = "cpu") -> None:
    """Load a safetensors file into `model`, which it must fit exactly.

    Raises:
        ChexError: the file is damaged or not safetensors, its tensors are not those of the model, or a value is not
            finite.
    """
    try:
        weights = load_file(path, device=device)
    except (SafetensorError, OSError, ValueError) as error:
        raise _damaged(path, error) from None
    weights = with_todays_names(weights)
    wanted = model.state_dict()
    problem = _other_shapes(_shapes(wanted), _shapes(weights)) or _other_type(wanted, weights)
    if problem is not None:
        raise _of_another_model(path, problem)
    model.load_state_dict(weights)
    for name, value in model.state_dict().items():
        if not bool(torch.isfinite(value).all()):
            raise ChexError(f"{path} contains values that are not finite, first in {name}: the weights are damaged")


def with_todays_names(weights: dict[str, T]) -> dict[str, T]:
    """Tensors of DenseNet-121 as models of torchvision's named them, with today's names; others as they are."""
    if "backbone.denseblock1.denselayer1.conv1.weight" not in weights:
        return weights
    return {re.sub(r"^backbone\.", "backbone.network.features.", name): value for name, value in weights.items()}


def _damaged(path: Path, error: Exception) -> ChexError:
    detail = " ".join(str(error).split())[:200]
    return ChexError(
        f"{path} is not a complete safetensors file ({detail}); fetch it again. Weights are never unpickled"
    )


def _of_another_model(path: Path, problem: str) -> ChexError:
    return ChexError(f"{path} does not contain this model's weights: {problem}")


def _shapes(tensors: Mapping[str, Tensor]) -> dict[str, tuple[int, ...]]:
    return {name: tuple(tensor.shape) for name, tensor in tensors.items()}


def _other_shapes(wanted: dict[str, tuple[int, ...]], given: dict[str, tuple[int, ...]]) -> str | None:
    for names, problem in (
        (wanted.keys() - given.keys(), "is missing"),
        (given.keys() - wanted.keys(), "is unknown"),
    ):
        if names:
            more = f" (and {len(names) - 1} more)" if len(names) > 1 else ""
            return f"{min(names)[:100]}{more} {problem}"
    for name, shape in wanted.items():
        if given[name] != shape:
            return f"{name} has shape {list(given[name])}, expected {list(shape)}"
    return None


def _other_type(wanted: dict[str, Tensor], given: dict[str, Tensor]) -> str | None:
    for name, tensor in wanted.items():
        if given[name].is_complex() or given[name].is_floating_point() != tensor.is_floating_point():
            return f"{name} has type {given[name].dtype}, expected {tensor.dtype}"
    return None
