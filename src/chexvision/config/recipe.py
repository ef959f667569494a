"""The recipe: everything that decides what a run computes, as typed and validated objects.

Values are in ``configs/*.yaml``; the classes here define which keys exist, their types and their bounds. A key with a
default came after the first release: recipes in records of older runs lack it.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field, model_validator

from chexvision.backbones import RENAMED, check_backbone, facts, has_imagenet_weights, size_problem
from chexvision.config.data_config import (
    AugmentConfig,
    Count,
    DataConfig,
    DatasetConfig,
    NonNegative,
    Positive,
    Probability,
    Section,
)
from chexvision.config.weights_source import parse_weights

Pooling = Literal["network", "average", "token", "attention"]


class ModelConfig(Section):
    """Which network, the weights that it starts from, and how its dual head is shaped."""

    backbone: str  # a name of `chexvision.backbones`, or timm/<model>[.<tag>]
    # imagenet: those that the network is published with. none: random. Or a safetensors file, or that of a model on
    # the Hub: PATH, USER/REPO@<40-hex sha>:FILE; or the folder of a model.
    weights: str
    # What the heads sit on. network: features pooled as the network was published. average: the mean of its last map
    # or patch tokens. token: the class token. attention: an attention pooling of its own over these.
    pooling: Pooling = "network"
    hidden_features: Annotated[int, Field(ge=0)]  # 0: the heads sit on the pooled features
    dropout: Annotated[float, Field(ge=0, lt=1)]
    drop_path: Annotated[float, Field(ge=0, lt=1)] = 0.0  # of the last block; linear from 0 at the first

    @model_validator(mode="after")
    def _known(self) -> ModelConfig:
        check_backbone(self.backbone)
        if self.weights == "imagenet" and not has_imagenet_weights(self.backbone):
            raise ValueError(f"{self.backbone} has no ImageNet weights; set model.weights=none, or name a file")
        parse_weights(self.weights)
        return self


class LossConfig(Section):
    """multilabel_weight · L over the findings + binary_weight · BCE normal/abnormal."""

    name: Literal["bce", "focal", "asymmetric"]
    multilabel_weight: NonNegative
    # A head of weight 0 learns from the features that the other one needs, and does not shape them.
    binary_weight: NonNegative
    label_smoothing: Annotated[float, Field(ge=0, lt=1)]  # a positive's target is 1 minus this, a negative's 0
    focal_gamma: NonNegative
    pos_weight_power: Probability  # 0: unweighted, 1: negatives / positives
    pos_weight_cap: Annotated[float, Field(ge=1)]
    # Ridnik et al., "Asymmetric Loss For Multi-Label Classification", ICCV 2021, whose defaults these are.
    asymmetric_gamma_negative: NonNegative = 4.0
    asymmetric_gamma_positive: NonNegative = 1.0
    asymmetric_clip: Annotated[float, Field(ge=0, lt=1)] = 0.05  # probabilities of negatives below this cost nothing
    # Distillation: the probabilities of a published model or ensemble as targets, of this share of the loss.
    # Hinton, Vinyals and Dean, "Distilling the Knowledge in a Neural Network", arXiv:1503.02531.
    teacher: str | None = None  # a folder, or USER/REPO@<40-hex sha>
    teacher_weight: Probability = 0.5

    @model_validator(mode="after")
    def _something_to_learn(self) -> LossConfig:
        if self.multilabel_weight + self.binary_weight == 0:
            raise ValueError("multilabel_weight and binary_weight are both 0: nothing would be learned")
        return self

    @property
    def taught_by(self) -> str | None:
        """The teacher, unless its share of the loss is 0."""
        return self.teacher if self.teacher_weight else None


class OptimConfig(Section):
    """The optimizer, the effective batch, and clipping."""

    # adam: weight decay is added to the gradient (L2), as in Kingma and Ba, ICLR 2015. sgd: Nesterov momentum.
    name: Literal["adamw", "adam", "sgd"] = "adamw"
    momentum: Annotated[float, Field(ge=0, lt=1)] = 0.9  # of sgd
    batch_size: Count  # images per optimization step, whatever the hardware
    micro_batch_size: Count  # the most images in one forward pass
    weight_decay: NonNegative
    decay_norms: bool = False  # whether norms and biases decay as well, as torch's optimizers do by default
    # Learning rate of each layer relative to the next one; 1: the same for all. Bao et al., "BEiT", ICLR 2022.
    layer_decay: Annotated[float, Field(gt=0, le=1)] = 1.0
    clip_norm: Positive


class PhaseConfig(Section):
    """Consecutive epochs with their own schedule: linear warm-up to `lr`, then down to `min_lr` at the lowest."""

    epochs: Count
    lr: Positive
    min_lr: NonNegative
    warmup_epochs: NonNegative
    # none: everything learns. all: the dual head alone. partial: the head and the network's last stage.
    # A number: all but this many of the network's first stages.
    freeze: Literal["none", "partial", "all"] | Count
    image_size: Annotated[int, Field(ge=32, le=1024)] | None = None  # of training; null: data.image_size
    # cosine: half a cosine over the rest of the phase. constant: `lr` throughout. step: times `decay_factor` every
    # `decay_epochs` epochs. plateau: the same after so many epochs without a better `training.monitor`.
    schedule: Literal["cosine", "plateau", "step", "constant"] = "cosine"
    decay_factor: Annotated[float, Field(gt=0, lt=1)] = 0.5
    decay_epochs: Count = 5

    @model_validator(mode="after")
    def _schedule_fits(self) -> PhaseConfig:
        if self.warmup_epochs > self.epochs:
            raise ValueError(f"warmup_epochs {self.warmup_epochs} is longer than the phase's {self.epochs} epochs")
        if self.min_lr > self.lr:
            raise ValueError(f"min_lr {self.min_lr} is above lr {self.lr}")
        return self


Monitor = Literal["macro_auroc", "loss"]
Track = Literal["none", "trackio", "tensorboard", "wandb"]


class TrainingConfig(Section):
    """Seed, precision, averaging, phases and when to stop."""

    seed: Annotated[int, Field(ge=0, lt=2**32)]
    precision: Literal["auto", "fp32", "fp16", "bf16"]
    compile: bool  # torch.compile; falls back with a warning
    ema_decay: Annotated[float, Field(ge=0, lt=1)]  # of the averaged weights, per step; 0: none
    # What chooses the best epoch, stops early and ends a plateau: validation's macro AUROC, or its loss.
    monitor: Monitor = "macro_auroc"
    patience: Count  # epochs without weights to keep
    # The weights of which epoch are kept. 0, and with `monitor: loss`: of the best. Above: of the latest whose macro
    # AUROC is no more than so many standard errors of the difference below the best one, since the highest of many
    # noisy scores is often luck. 1: the one-standard-error rule of Breiman et al., "Classification and Regression
    # Trees", 1984, paired.
    keep_within: Annotated[float, Field(ge=0, le=10)] = 0.0
    phases: Annotated[tuple[PhaseConfig, ...], Field(min_length=1)]
    # Where the figures of epochs and steps are sent as well, see `chexvision.tracking`. Changes nothing that is
    # computed: a run may continue with another value.
    track: Track = "none"

    @property
    def tolerance(self) -> float:
        """`keep_within` where the macro AUROC is monitored, else 0."""
        return self.keep_within if self.monitor == "macro_auroc" else 0.0

    @property
    def monitored(self) -> str:
        """What `monitor` is called in texts."""
        return {"macro_auroc": "macro AUROC", "loss": "loss"}[self.monitor]

    @property
    def epochs(self) -> int:
        """Epochs of all phases together."""
        return sum(phase.epochs for phase in self.phases)

    def phase_of(self, epoch: int) -> tuple[int, PhaseConfig, int]:
        """The number (from 0), settings and first epoch of the phase that `epoch` (from 0) belongs to.

        Raises:
            IndexError: no phase reaches so far.
        """
        begin = 0
        for number, phase in enumerate(self.phases):
            if epoch < begin + phase.epochs:
                return number, phase, begin
            begin += phase.epochs
        raise IndexError(f"epoch {epoch} of {begin}")


class Recipe(Section):
    """All that decides what a run computes."""

    name: str
    model: ModelConfig
    data: DataConfig
    augment: AugmentConfig
    loss: LossConfig
    optim: OptimConfig
    training: TrainingConfig

    @model_validator(mode="after")
    def _norms_have_statistics(self) -> Recipe:
        # Backbones halve the side five times: below 64 their last feature map may be 1x1.
        learns = not all(phase.freeze == "all" for phase in self.training.phases)
        if learns and self.optim.micro_batch_size == 1 and self.data.image_size < 64:
            raise ValueError(
                f"optim.micro_batch_size 1 with data.image_size {self.data.image_size} leaves batch norms a single "
                "value per channel; set optim.micro_batch_size to 2 or more"
            )
        return self

    @model_validator(mode="after")
    def _network_takes_the_images(self) -> Recipe:
        backbone = self.model.backbone
        sizes = {"data.image_size": self.data.image_size} | {
            f"training.phases.{number}.image_size": phase.image_size
            for number, phase in enumerate(self.training.phases)
            if phase.image_size is not None
        }
        for key, size in sizes.items():
            problem = size_problem(backbone, size)
            if problem is None and size != self.data.image_size and facts(backbone).one_size:
                problem = f"{backbone} takes images of one size; leave it out"
            if problem is not None:
                raise ValueError(f"{key}: {problem}")
        return self

    @model_validator(mode="after")
    def _phases_fit(self) -> Recipe:
        for number, phase in enumerate(self.training.phases):
            if phase.image_size is not None and phase.image_size > self.data.image_size:
                raise ValueError(
                    f"training.phases.{number}.image_size {phase.image_size} is above data.image_size "
                    f"{self.data.image_size}, which images are decoded at; raise data.image_size"
                )
        return self


def earlier_freeze(value: object) -> object:
    """The value of `PhaseConfig.freeze` that `freeze_backbone: true` or `false` of earlier recipes stands for."""
    return ("all" if value else "none") if isinstance(value, bool) else value


def upgraded_recipe(tree: dict[str, Any]) -> dict[str, Any]:
    """A recipe in a record of an earlier version with today's keys; values are not checked."""
    model, training = dict(tree["model"]), dict(tree["training"])
    if "pretrained" in model:
        model["weights"] = "imagenet" if model.pop("pretrained") else "none"
    model["backbone"] = RENAMED.get(model["backbone"], model["backbone"])
    phases = [
        {"freeze" if key == "freeze_backbone" else key: value for key, value in phase.items()}
        for phase in training["phases"]
    ]
    training["phases"] = [phase | {"freeze": earlier_freeze(phase.get("freeze"))} for phase in phases]
    return tree | {"model": model, "training": training}


def known_keys(section: type[BaseModel] = Recipe, prefix: str = "") -> Iterator[str]:
    """Every dotted key of a recipe; list entries are written with index 0."""
    for name, field in section.model_fields.items():
        yield f"{prefix}{name}"
        annotation = field.annotation
        if isinstance(annotation, type) and issubclass(annotation, BaseModel):
            yield from known_keys(annotation, f"{prefix}{name}.")
        elif name in _ENTRIES:
            yield from known_keys(_ENTRIES[name], f"{prefix}{name}.0.")


_ENTRIES: dict[str, type[Section]] = {"phases": PhaseConfig, "datasets": DatasetConfig}  # of the keys that are lists
