"""The micro-batch probe: how many images fit into one pass, found before the first step; and compilation for it."""

from __future__ import annotations

import logging
from collections.abc import Callable

import torch
from accelerate import Accelerator
from accelerate.utils import reduce
from torch import Tensor, nn

from chexvision.config.recipe import Recipe
from chexvision.data.augment import AugmentParameters, sample
from chexvision.data.loader import MicroBatch
from chexvision.errors import ChexError, UsageError
from chexvision.models.classifier import CheXVision

Accumulate = Callable[[nn.Module, MicroBatch, AugmentParameters], Tensor]

# How libraries other than torch's allocator report that memory is out: CUDA itself, cuBLAS and cuDNN.
_OUT_OF_MEMORY = ("out of memory", "ALLOC_FAILED")

_FILLED = 0.8  # of a GPU's memory: what a longer pass may take for it to be worth a note

_log = logging.getLogger(__name__)


class TrialPass:
    """A forward and backward pass over blank images that leaves the model as it was.

    Args:
        model: what is trained.
        accumulate: training's own pass of a micro-batch through a network and back.
        recipe: gives size and augmentation.
        device: of the model.
    """

    def __init__(self, model: CheXVision, accumulate: Accumulate, recipe: Recipe, device: torch.device) -> None:
        self.model = model
        self.accumulate = accumulate
        self.recipe = recipe
        self.device = device

    def __call__(self, images: int, network: nn.Module | None = None, *, reserve: bool = True) -> None:
        """Pass `images` blank images through `network` (default: the model itself) and back.

        Args:
            images: how many.
            network: the model, as it is compiled or wrapped.
            reserve: whether what training holds in addition has to fit, too.

        Raises:
            RuntimeError: they do not fit.
        """
        size, device = self.recipe.data.image_size, self.device
        kept = [buffer.clone() for buffer in self.model.buffers()]
        reserved = torch.empty(self._beyond_the_pass() if reserve else 0, dtype=torch.uint8, device=device)
        self.model.train()
        try:
            batch = MicroBatch(
                images=torch.zeros((images, size, size), dtype=torch.uint8, device=device),
                targets=torch.zeros((images, len(self.model.label_space.outputs)), device=device),
                weights=torch.ones(images, device=device),
                positions=torch.arange(images),
                mirrored=torch.zeros(images, dtype=torch.bool),
                step=0,
                step_size=images,
                last=True,
            )
            # Not `network or`: a compiled network has no truth value.
            passed = network if network is not None else self.model
            self.accumulate(passed, batch, sample(self.recipe.augment, images, seed=0))
        finally:
            del reserved
            self.model.zero_grad(set_to_none=True)
            with torch.no_grad():
                for buffer, value in zip(self.model.buffers(), kept, strict=True):
                    buffer.copy_(value)

    def _beyond_the_pass(self) -> int:
        """Bytes that a GPU holds in training in addition to one pass, so that what fits now fits later."""
        if self.device.type != "cuda":
            return 0
        learning = sum(one.numel() for one in self.model.parameters() if one.requires_grad)
        # Gradients of earlier passes and two moments; and what fragments and prefetched images take.
        total = torch.cuda.get_device_properties(self.device).total_memory
        return 12 * learning + total // 50


def check_image_sizes(model: CheXVision, recipe: Recipe, device: torch.device) -> None:
    """Check, before anything is trained, that a network takes the images of all phases.

    Raises:
        UsageError: it does not.
    """
    model.eval()
    for number, phase in enumerate(recipe.training.phases):
        size = phase.image_size
        if size is None or size == recipe.data.image_size:
            continue
        try:
            with torch.no_grad():
                model(torch.zeros((1, 3, size, size), device=device))
        except (AssertionError, RuntimeError, ValueError) as error:
            detail = " ".join(str(error).split())[:200] or type(error).__name__
            raise UsageError(
                f"training.phases.{number}.image_size {size}: {recipe.model.backbone} takes no images of this "
                f"size when it is built for data.image_size {recipe.data.image_size} ({detail}); leave it out, or "
                "set another one"
            ) from None


def compiled(model: CheXVision, trial: Callable[[int, nn.Module], None], images: int) -> nn.Module:
    """`model` through torch.compile, or as it is, with a warning, where that does not work.

    Args:
        model: what is trained; the compiled network shares its weights.
        trial: passes images through a network and back.
        images: of a micro-batch: code for another number would not be used.
    """
    network: nn.Module = torch.compile(model)  # type: ignore[assignment]
    try:
        trial(images, network)
    # Compilers fail in many ways: no C compiler, an unsupported device, an error of the backend.
    except Exception as error:  # noqa: BLE001
        what = " ".join(str(error).split())
        _log.warning("torch.compile failed (%s: %.200s); continuing without it", type(error).__name__, what)
        return model
    return network


def fitting_micro_batch(
    attempt: Callable[[int], None],
    most: int,
    micro_batch_size: int,
    accelerator: Accelerator,
    share: int | None = None,
) -> int:
    """`micro_batch_size`, or less where passes of an epoch do not fit a GPU; see `fit_micro_batch`.

    Args:
        attempt: does a forward and backward pass over that many images.
        most: images of an epoch's largest pass.
        micro_batch_size: the most images per pass that the recipe asks for.
        accelerator: of this process.
        share: images of a step that one process computes, to tell where they would fit into one pass; None not to.
    """
    device = accelerator.device
    if device.type != "cuda":
        return micro_batch_size
    torch.cuda.reset_peak_memory_stats(device)
    fitting = fit_micro_batch(attempt, most, accelerator)
    if fitting < most:
        return fitting
    if share is not None and accelerator.is_main_process:
        used, total = torch.cuda.max_memory_allocated(device), torch.cuda.get_device_properties(device).total_memory
        note = note_of_room(used, most, share, total)
        if note:
            _log.warning("%s", note)
    return micro_batch_size


def note_of_room(used: int, images: int, share: int, total: int) -> str | None:
    """What to tell about a GPU that would take a step in one pass; None where it would not.

    Args:
        used: the most bytes that were in use during a pass.
        images: of that pass.
        share: images of a step that this GPU computes.
        total: bytes of the GPU's memory.
    """
    # Weights and moments are in `used` too, so that this overestimates.
    if share <= images or used * share > _FILLED * total * images:
        return None
    return (
        f"note: passes of {images} images take {used / 1e9:.1f} of {total / 1e9:.0f} GB of the GPU. "
        f"optim.micro_batch_size={share} would compute a step in one pass, which may be several times as fast; norms "
        f"that learn would take their statistics from {share} images"
    )


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
        except RuntimeError as error:
            if not isinstance(error, torch.OutOfMemoryError) and not any(
                text in str(error) for text in _OUT_OF_MEMORY
            ):
                raise
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
