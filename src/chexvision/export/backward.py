"""Gradients as operations that ONNX has: decompositions of what PyTorch records in a backward pass."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch._decomp import core_aten_decompositions

_aten = torch.ops.aten


def decompositions() -> dict[Any, Callable[..., Any]]:
    """PyTorch's own decompositions, and those of gradients that it leaves to its kernels."""
    return {
        **core_aten_decompositions(),
        _aten.convolution_backward.default: _convolution,
        _aten.native_batch_norm_backward.default: _batch_norm,
        _aten.avg_pool2d_backward.default: _average_pooling,
        _aten.max_pool2d_with_indices_backward.default: _maximum_pooling,
    }


def _convolution(
    gradient: Tensor,
    image: Tensor,
    weight: Tensor,
    bias_sizes: Sequence[int] | None,
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
    transposed: bool,
    output_padding: Sequence[int],
    groups: int,
    output_mask: Sequence[bool],
) -> tuple[Tensor | None, None, None]:
    """The gradient at the input: a transposed convolution with the same weights."""
    if transposed or output_mask[1] or output_mask[2]:
        raise NotImplementedError("the gradient of a transposed convolution or of weights")
    if not output_mask[0]:
        return None, None, None
    return _spread(gradient, image, weight, stride, padding, dilation, groups), None, None


def _batch_norm(
    gradient: Tensor,
    image: Tensor,
    weight: Tensor | None,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    save_mean: Tensor | None,
    save_invstd: Tensor | None,
    train: bool,
    eps: float,
    output_mask: Sequence[bool],
) -> tuple[Tensor, None, None]:
    """The gradient at the input of a norm with fixed statistics, which only scales."""
    if train or running_var is None or output_mask[1] or output_mask[2]:
        raise NotImplementedError("the gradient of a norm that learns")
    scale = (running_var + eps).rsqrt()
    scale = scale if weight is None else scale * weight
    return gradient * scale.view(-1, *[1] * (image.ndim - 2)), None, None


def _average_pooling(
    gradient: Tensor,
    image: Tensor,
    kernel: Sequence[int],
    stride: Sequence[int],
    padding: Sequence[int],
    ceil_mode: bool,
    count_include_pad: bool,
    divisor: int | None,
) -> Tensor:
    """The gradient of a mean over windows: a transposed convolution with equal weights."""
    if ceil_mode or (any(padding) and not count_include_pad):
        raise NotImplementedError("the gradient of a mean over windows that differ in size")
    high, wide = (kernel[0], kernel[-1])
    channels = image.shape[1]
    weight = torch.full((channels, 1, high, wide), 1 / (divisor or high * wide), dtype=image.dtype)
    return _spread(gradient, image, weight, stride or kernel, padding, (1, 1), channels)


def _spread(
    gradient: Tensor,
    image: Tensor,
    weight: Tensor,
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
    groups: int,
) -> Tensor:
    """A transposed convolution of `gradient` with the sides of `image`."""
    sides = weight.shape[2:]
    stride, padding, dilation = (
        list(of) if len(of) == len(sides) else list(of) * len(sides) for of in (stride, padding, dilation)
    )
    rest = []
    for i, side in enumerate(sides):
        without = (int(gradient.shape[2 + i]) - 1) * stride[i] - 2 * padding[i] + dilation[i] * (side - 1) + 1
        rest.append(int(image.shape[2 + i]) - without)
    spread: Tensor = _aten.convolution(gradient, weight, None, stride, padding, dilation, True, rest, groups)
    return spread


def _maximum_pooling(
    gradient: Tensor,
    image: Tensor,
    kernel: Sequence[int],
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
    ceil_mode: bool,
    indices: Tensor,
) -> Tensor:
    """The gradient of a maximum over windows: each value goes to the pixel that was the largest."""
    zeros = torch.zeros_like(image).flatten(2)
    return zeros.scatter_add(2, indices.flatten(2), gradient.flatten(2)).view_as(image)
