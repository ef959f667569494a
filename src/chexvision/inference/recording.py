"""The outputs of named modules during a forward pass that does not change the model."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import nn

from chexvision.models.classifier import CheXVision


@contextmanager
def exactly(model: CheXVision, device_type: str) -> Iterator[None]:
    """Compute in evaluation mode, in fp32 and reproducibly; the model is left in the mode it was in."""
    training = model.training
    model.eval()
    try:
        with (
            torch.autocast(device_type, enabled=False),
            torch.backends.cudnn.flags(enabled=True, benchmark=False, deterministic=True, allow_tf32=False),
        ):
            yield
    finally:
        model.train(training)


@contextmanager
def recorded(network: nn.Module, names: Sequence[str]) -> Iterator[dict[str, object]]:
    """What the modules `names` of `network` return while the block runs, by name, in the order in which they do.

    Raises:
        AttributeError: there is no such module.
    """
    outputs: dict[str, object] = {}

    def record(name: str, output: object) -> None:
        outputs[name] = output

    hooks = [
        network.get_submodule(name).register_forward_hook(lambda _module, _inputs, out, name=name: record(name, out))
        for name in names
    ]
    try:
        yield outputs
    finally:
        for hook in hooks:
            hook.remove()
