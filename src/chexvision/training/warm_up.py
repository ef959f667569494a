"""Before the first step: compile the network, and find how many images fit into one pass."""

from __future__ import annotations

import logging
from collections.abc import Callable

import torch
from accelerate import Accelerator
from accelerate.utils import reduce
from torch import nn

from chexvision.config import Recipe
from chexvision.data.augment import augment, draw
from chexvision.errors import ChexError
from chexvision.models.classifier import CheXVision
from chexvision.training.loss import DualHeadLoss

_log = logging.getLogger(__name__)


class TrialPass:
    """A forward and backward pass over blank images that leaves the model as it was.

    Args:
        model: what is trained.
        loss: its loss.
        recipe: gives size and augmentation.
        accelerator: gives device and precision.
    """

    def __init__(self, model: CheXVision, loss: DualHeadLoss, recipe: Recipe, accelerator: Accelerator) -> None:
        self.model = model
        self.loss = loss
        self.recipe = recipe
        self.accelerator = accelerator

    def __call__(self, images: int, network: nn.Module | None = None) -> None:
        """Pass `images` blank images through `network` (default: the model itself) and back.

        Raises:
            torch.OutOfMemoryError: they do not fit.
        """
        device, size = self.accelerator.device, self.recipe.data.image_size
        kept = [buffer.clone() for buffer in self.model.buffers()]
        self.model.train()
        try:
            blank = torch.zeros((images, size, size), dtype=torch.uint8, device=device)
            with self.accelerator.autocast():
                # Not `network or`: a compiled network has no truth value.
                passed = network if network is not None else self.model
                logits = passed(augment(blank, draw(self.recipe.augment, images, seed=0)))
            self.loss(logits, torch.zeros((images, 15), device=device)).mean().backward()
        finally:
            self.model.zero_grad(set_to_none=True)
            with torch.no_grad():
                for buffer, value in zip(self.model.buffers(), kept, strict=True):
                    buffer.copy_(value)


def compiled(model: CheXVision, trial: Callable[[int, nn.Module], None]) -> nn.Module:
    """`model` through torch.compile, or as it is, with a warning, where that does not work.

    Args:
        model: what is trained; the compiled network shares its weights.
        trial: passes images through a network and back.
    """
    network: nn.Module = torch.compile(model)  # type: ignore[assignment]
    try:
        trial(2, network)
    except torch.OutOfMemoryError:
        raise
    # Compilers fail in ways of their own: no C compiler, an unsupported device, an error of the backend.
    except Exception as error:  # noqa: BLE001
        _log.warning("torch.compile failed (%s: %.200s); going on without it", type(error).__name__, error)
        return model
    return network


def fit_micro_batch(attempt: Callable[[int], None], size: int, accelerator: Accelerator) -> int:
    """The largest of `size`, `size`/2, `size`/4, … with which `attempt` does not run out of memory anywhere.

    The effective batch stays what the recipe promises: half the micro-batch is twice the accumulation.

    Args:
        attempt: does a forward and backward pass over that many images.
        size: the recipe's micro-batch.
        accelerator: of this process; all processes agree on the smallest.

    Raises:
        ChexError: not even one image fits.
    """
    while True:
        fits = True
        try:
            attempt(size)
        except torch.OutOfMemoryError:
            fits = False
        if not fits and accelerator.device.type == "cuda":
            torch.cuda.empty_cache()  # outside the handler, whose traceback holds the activations
        misfits = reduce(torch.tensor(float(not fits), device=accelerator.device), "sum")
        if not float(misfits):
            return size
        if size == 1:
            raise ChexError(
                "not one image fits into the device's memory; choose a smaller data.image_size or another backbone"
            )
        if accelerator.is_main_process:
            _log.warning(
                "out of memory with micro-batches of %d: now %d, accumulating twice as many", size, size // 2
            )
        size //= 2
