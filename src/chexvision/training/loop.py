"""The training loop: phases of epochs, epochs of optimization steps, steps of micro-batches."""

from __future__ import annotations

import math
from collections.abc import Callable
from contextlib import closing
from functools import partial
from pathlib import Path

import torch
from accelerate import Accelerator
from accelerate.optimizer import AcceleratedOptimizer
from accelerate.utils import gather, reduce
from safetensors.torch import save_model
from torch import Tensor, nn

from chexvision.config.recipe import PhaseConfig, Recipe
from chexvision.data.dataset import Split
from chexvision.data.loader import images_per_pass, largest_pass, steps_per_epoch, training_batches
from chexvision.data.mixing import mixes
from chexvision.errors import ChexError
from chexvision.files.atomic import atomic_path
from chexvision.metrics.ranking import Floats
from chexvision.models.classifier import CheXVision
from chexvision.training.checkpoint import (
    Saving,
    TrainingState,
    fingerprints,
    load_state,
    save_state,
)
from chexvision.training.ema import MovingAverage
from chexvision.training.epoch_sums import EpochSums
from chexvision.training.hardware import forget_peak_memory, rank_of
from chexvision.training.history import (
    History,
    best_epoch,
    dump_history,
    epochs_without_gain,
    kept_epoch,
    read_history,
    scores,
)
from chexvision.training.loss import DualHeadLoss, detach_unweighted_heads, pos_weight
from chexvision.training.micro_batch_probe import TrialPass, check_image_sizes, compiled, fitting_micro_batch
from chexvision.training.optimization_steps import OptimizationSteps
from chexvision.training.optimizer import learning_rate, make_optimizer
from chexvision.training.processes import agreed, broadcast_buffers, wrap_in_ddp
from chexvision.training.reporter import ConsoleReporter
from chexvision.training.training_session import BEST_FILE, STATE_FILE
from chexvision.training.validation import difference_error, epoch_record, validate_both


class Training:
    """One run of a recipe.

    Args:
        recipe: what to do.
        model: its network.
        train: the split to learn from.
        validation: the split that chooses the best epoch.
        accelerator: device, precision and the other processes.
        work: folder of the first process, that receives the state to resume from and the best weights.
        reporter: receives progress; give one on the main process only.
        should_stop: asked between steps whether to save the state and end early.
        saving: when the state is saved within an epoch, and what follows; without it, at the epochs' ends alone.

    Raises:
        UsageError: the network does not take the images of a phase.

    Attributes:
        history: a record for each epoch that ended.
    """

    def __init__(
        self,
        recipe: Recipe,
        model: CheXVision,
        train: Split,
        validation: Split,
        accelerator: Accelerator,
        work: Path,
        reporter: ConsoleReporter | None = None,
        should_stop: Callable[[], bool] = lambda: False,
        saving: Saving | None = None,
    ) -> None:
        self.recipe = recipe
        self.train_split = train
        self.validation_split = validation
        self.accelerator = accelerator
        self.work = work
        self.reporter = reporter
        self.should_stop = should_stop
        self.saving = saving or Saving()
        self.model = model.to(accelerator.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        power, cap = recipe.loss.pos_weight_power, recipe.loss.pos_weight_cap
        weights = pos_weight(train.targets[:, :-1], power, cap, train.taken_per_epoch)
        self.loss = DualHeadLoss(recipe.loss, weights).to(accelerator.device)
        detach_unweighted_heads(self.model, recipe.loss)
        self.steps = steps_per_epoch(train.images_per_epoch, recipe.optim.batch_size)
        self.process = rank_of(accelerator)
        check_image_sizes(self.model, recipe, accelerator.device)
        self.history: History = []
        self.ema = MovingAverage(self.model, recipe.training.ema_decay) if recipe.training.ema_decay else None
        self.micro_batch_size = recipe.optim.micro_batch_size
        self.optimization = OptimizationSteps(recipe, self.model, self.loss, accelerator, self.ema)
        self._fingerprints = fingerprints(recipe, train, validation)
        self._sums = EpochSums(accelerator.device)
        self._best_shares: Floats | None = None  # of the best epoch's validation

    def run(self) -> bool:
        """Train to the end, continuing from the saved state if there is one.

        Returns:
            Whether training ended; False if it was stopped early, with its state saved.

        Raises:
            ChexError: the loss is not finite, or the saved state is another run's.
        """
        state = self._restored()
        epoch = 0 if state is None else state.epoch
        current: int | None = None
        settings = self.recipe.training
        while epoch < settings.epochs and epochs_without_gain(self.history, settings) < settings.patience:
            number, phase, phase_begin = settings.phase_of(epoch)
            if number != current:
                current = number
                network, optimizer = self._begin_phase(phase, state)
            begin = self.steps * (epoch - phase_begin)
            earlier_scores = scores(self.history[phase_begin:epoch], settings.monitor)
            rates = [learning_rate(phase, begin + step, self.steps, earlier_scores) for step in range(self.steps)]
            if not self._train_epoch(network, optimizer, epoch, rates, state):
                return False
            self._end_epoch(optimizer, epoch, number, rates)
            state = None
            epoch += 1
        return True

    def _restored(self) -> TrainingState | None:
        """The saved state, after what it has of all phases was taken from it."""
        state = load_state(self.work / STATE_FILE, *self._fingerprints, rank=self.process)
        if state is None:
            return None
        self.history = read_history(state.history)
        self.model.load_state_dict(state.model)
        self.micro_batch_size = state.micro_batch_size
        self._best_shares = state.best_shares.numpy() if state.best_shares is not None else None
        if self.ema is not None and state.ema is not None:
            self.ema.load_state_dict(state.ema)
        if self.reporter:
            self.reporter.resumed(self.history)
        return state

    def _begin_phase(self, phase: PhaseConfig, state: TrainingState | None) -> tuple[nn.Module, AcceleratedOptimizer]:
        self.optimization.image_size = phase.image_size or self.recipe.data.image_size
        self.model.freeze(phase.freeze)
        self.accelerator.free_memory()  # else it would unscale the last phase's gradients as well
        optimizer: AcceleratedOptimizer = self.accelerator.prepare(make_optimizer(self.model, self.recipe.optim))
        if state is not None and state.optimizer is not None:
            optimizer.load_state_dict(state.optimizer)
        if state is not None and state.scaler is not None and self.accelerator.scaler is not None:
            self.accelerator.scaler.load_state_dict(state.scaler)
        trial = TrialPass(self.model, self.optimization.accumulate, self.recipe, self.process.device)
        optim, images, process = self.recipe.optim, self.train_split.images_per_epoch, self.process
        most = largest_pass(self.train_split, optim.batch_size, self.micro_batch_size, process)
        share = -(-min(optim.batch_size, images) // process.world) if self._last_phase_begins else None
        self.micro_batch_size = fitting_micro_batch(trial, most, self.micro_batch_size, self.accelerator, share)
        usual, _ = images_per_pass(images, optim.batch_size, self.micro_batch_size, process.world)
        network = compiled(self.model, trial, usual) if self.recipe.training.compile else self.model
        # Wrapped again in each phase: DDP reads once which parameters require gradients.
        # A pooling other than the network's own passes by the layers that follow that, such as AlexNet's last two.
        unused = self.recipe.model.pooling != "network"
        # Nothing is reserved: where it does not fit by a little, the probe before it has no say any more.
        first_pass = partial(trial, usual, reserve=False)
        return wrap_in_ddp(network, process, unused=unused, first_pass=first_pass), optimizer

    @property
    def _last_phase_begins(self) -> bool:
        """Whether no epoch of the last phase has ended; earlier phases freeze layers, or have smaller images."""
        number, _, begin = self.recipe.training.phase_of(len(self.history))
        return number + 1 == len(self.recipe.training.phases) and begin == len(self.history)

    def _train_epoch(
        self,
        network: nn.Module,
        optimizer: AcceleratedOptimizer,
        epoch: int,
        rates: list[float],
        state: TrainingState | None,
    ) -> bool:
        """Take the epoch's optimization steps; False if stopped before the last."""
        optim, seed = self.recipe.optim, self.recipe.training.seed
        first_step = 0 if state is None else state.step
        self._sums = EpochSums(self.process.device)
        if state is not None:
            self._sums.resume(state.loss_sum, state.loss_sums, state.grad_norm_sum, state.seconds, self.process)
        forget_peak_memory(self.process.device)
        if self.reporter:
            images, done = self.train_split.images_per_epoch, first_step * optim.batch_size
            self.reporter.epoch_begins(epoch + 1, self.recipe.training.epochs, images, done)
        self._sums.begin()
        network.train()
        optimizer.zero_grad(set_to_none=True)
        where, mixing = (seed, epoch, self.process, first_step), mixes(self.recipe.augment)
        batches = training_batches(
            self.train_split, optim.batch_size, self.micro_batch_size, *where, predecessors=mixing
        )
        with closing(batches):
            for batch in self.optimization.taken(network, optimizer, batches, epoch, rates, self._sums):
                if self.reporter:
                    self.reporter.step_done(batch.step_size, self._sums.loss_of_all(self.process.world))
                if batch.step + 1 < self.steps:
                    stop, save = agreed(self.process, batch.step, self.should_stop, self.saving.due)
                    if stop or save:
                        self._save(optimizer, epoch, batch.step + 1)
                    if stop:
                        return False
        self._sums.end()
        return True

    def _end_epoch(self, optimizer: AcceleratedOptimizer, epoch: int, phase: int, rates: list[float]) -> None:
        """Validate, record, keep the weights if they are the best, and save the state."""
        train_loss = float(reduce(self._sums.loss, "sum")) / self.train_split.images_per_epoch
        if not math.isfinite(train_loss):
            raise ChexError(
                f"the training loss of epoch {epoch + 1} is {train_loss}: lower the learning rate "
                "(training.phases.N.lr) or compute with --set training.precision=fp32"
            )
        broadcast_buffers(self.process, self.model, *([self.ema.module] if self.ema is not None else []))
        settings, scaler = self.recipe.training, self.accelerator.scaler
        averaged = self.ema.module if self.ema is not None else None
        measured = validate_both(
            self.model, averaged, self.validation_split, self.accelerator, self.micro_batch_size, self.loss, settings
        )
        shares = measured.kept.shares
        record = epoch_record(
            measured,
            self._sums,
            epoch=epoch + 1,
            phase=phase + 1,
            train_loss=train_loss,
            difference_error=difference_error(self._best_shares, shares, self.validation_split),
            images=self.train_split.images_per_epoch,
            rates=rates,
            loss_scale=scaler.get_scale() if scaler is not None else None,
            micro_batch_size=self.micro_batch_size,
        )
        self.history.append(record)
        if best_epoch(self.history, settings.monitor) is record:
            self._best_shares = shares
        is_kept = kept_epoch(self.history, settings) is record
        if is_kept and self.accelerator.is_main_process:
            with atomic_path(self.work / BEST_FILE) as partial:
                save_model(averaged if averaged and record.weights == "averaged" else self.model, str(partial))
        self._save(optimizer, epoch + 1, 0)
        if self.reporter:
            self.reporter.epoch_done(self.history, is_kept)

    def _save(self, optimizer: AcceleratedOptimizer, epoch: int, step: int) -> None:
        loss_sums = gather(self._sums.loss.reshape(1)).cpu()
        if self.accelerator.is_main_process:
            self._write(optimizer, epoch, step, loss_sums)
        self.saving.done()

    def _write(self, optimizer: AcceleratedOptimizer, epoch: int, step: int, loss_sums: Tensor) -> None:
        # A phase that is over leaves nothing to its successor's optimizer.
        ended = step == 0 and epoch < self.recipe.training.epochs and self.recipe.training.phase_of(epoch)[2] == epoch
        scaler = self.accelerator.scaler
        save_state(
            self.work / STATE_FILE,
            TrainingState(
                fingerprint=self._fingerprints[0],
                epoch=epoch,
                step=step,
                loss_sum=float(loss_sums.sum()) if step else 0.0,
                grad_norm_sum=float(self._sums.grad_norm) if step else 0.0,
                seconds=self._sums.seconds_so_far if step else 0.0,
                history=dump_history(self.history),
                model=self.model.state_dict(),
                ema=self.ema.state_dict() if self.ema is not None else None,
                micro_batch_size=self.micro_batch_size,
                optimizer=None if ended else optimizer.state_dict(),
                scaler=scaler.state_dict() if scaler is not None else None,
                best_shares=torch.from_numpy(self._best_shares) if self._best_shares is not None else None,
                loss_sums=loss_sums if step else None,
            ),
        )
