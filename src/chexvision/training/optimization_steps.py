"""Optimization steps: the gradients of a step's micro-batches, summed, and the change of the weights."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import nullcontext

import torch
from accelerate import Accelerator
from accelerate.optimizer import AcceleratedOptimizer
from torch import Tensor, nn

from chexvision.config.recipe import Recipe
from chexvision.data.augment import AugmentParameters, augment, sample
from chexvision.data.loader import MicroBatch
from chexvision.data.mixing import Mix, mixed, sample_mix
from chexvision.models.classifier import CheXVision
from chexvision.seeds import mix_seed
from chexvision.training.ema import MovingAverage
from chexvision.training.epoch_sums import EpochSums
from chexvision.training.hardware import rank_of
from chexvision.training.loss import DualHeadLoss
from chexvision.training.optimizer import set_learning_rate


class OptimizationSteps:
    """Takes the optimization steps of a run.

    Args:
        recipe: of the run.
        model: what learns.
        loss: that is minimized.
        accelerator: device, precision and the other processes.
        ema: follows the weights; None without.

    Attributes:
        image_size: side of the images that the network gets, of the phase.
    """

    def __init__(
        self,
        recipe: Recipe,
        model: CheXVision,
        loss: DualHeadLoss,
        accelerator: Accelerator,
        ema: MovingAverage | None,
    ) -> None:
        self.image_size = recipe.data.image_size
        self._recipe = recipe
        self._model = model
        self._loss = loss
        self._accelerator = accelerator
        self._process = rank_of(accelerator)
        self._ema = ema

    def taken(
        self,
        network: nn.Module,
        optimizer: AcceleratedOptimizer,
        batches: Iterator[MicroBatch],
        epoch: int,
        rates: Sequence[float],
        sums: EpochSums,
    ) -> Iterator[MicroBatch]:
        """Take a step whenever its last micro-batch has come, and yield that one afterwards.

        A step whose fp16 gradients overflow changes no weights. The schedule and the average count it nevertheless:
        to leave it out, every step would have to wait for the device.

        Args:
            network: the model, as it is wrapped for several processes.
            optimizer: of the phase.
            batches: of this process.
            epoch: 0-based.
            rates: the learning rate of each step of the epoch.
            sums: of the epoch, to be added to.
        """
        optim, seed, sampled_for = self._recipe.optim, self._recipe.training.seed, -1
        for batch in sums.timed(batches):
            if batch.step != sampled_for:
                sampled_for = batch.step
                step_seed = mix_seed(seed, epoch, batch.step)
                parameters = sample(self._recipe.augment, batch.step_size, step_seed)
                mix = sample_mix(self._recipe.augment, step_seed)
                # Dropout follows from the position too: a resumed run needs no generator's state.
                torch.manual_seed(mix_seed(seed, epoch, batch.step, self._process.rank))
                set_learning_rate(optimizer, rates[batch.step])
            with nullcontext() if batch.last else self._accelerator.no_sync(network):
                part = parameters[batch.positions].mirrored(batch.mirrored)
                sums.loss += self.accumulate(network, batch, part, mix)
            if batch.last:
                sums.add_norm(self._accelerator.clip_grad_norm_(network.parameters(), optim.clip_norm))
                optimizer.step()
                optimizer.zero_grad(set_to_none=True)
                if self._ema is not None:
                    self._ema.update()
                yield batch

    def accumulate(
        self, network: nn.Module, batch: MicroBatch, parameters: AugmentParameters, mix: Mix | None = None
    ) -> Tensor:
        """Add the micro-batch's share of the effective batch's mean loss to the gradients.

        Returns:
            the loss summed over its images.
        """
        # In fp32: half precision moves pixels, and not all operations take it.
        preprocessing, targets = self._model.preprocessing, batch.targets
        images = augment(batch.images, parameters, preprocessing.mean, preprocessing.std, self.image_size)
        if batch.has_predecessor:
            images, targets = mixed(images, targets, mix)
        with self._accelerator.autocast():
            logits = network(images)
        loss: Tensor = (self._loss(logits, targets) * batch.weights).sum()
        # Processes average their gradients; each image must count once in the batch of all of them.
        self._accelerator.backward(loss * (self._process.world / batch.step_size))
        return loss.detach()
