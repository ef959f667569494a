"""The recipe: everything that decides what a run computes, as typed and validated objects.

Values are in ``configs/*.yaml``; the classes here define which keys exist, their types and their bounds.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator, Sequence
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from chexvision.backbones import backbone_named
from chexvision.errors import UsageError

Probability = Annotated[float, Field(ge=0, le=1)]
Positive = Annotated[float, Field(gt=0)]
NonNegative = Annotated[float, Field(ge=0)]
Count = Annotated[int, Field(ge=1)]

SPLIT_RULES = ("official", "chexnet", "patient", "shards")


def check_split_name(text: str, rules: Sequence[str] = SPLIT_RULES) -> None:
    """Check that `text` is one of `rules` or may be a file's name; whether the file exists is not checked.

    Raises:
        ValueError: it is neither.
    """
    if text not in rules and not re.search(r"[./\\]", text):
        close = difflib.get_close_matches(text, rules, n=1)
        guess = f"; did you mean {close[0]!r}?" if close else ""
        raise ValueError(f"split {text!r} is not {', '.join(rules)} or a table's file such as mine.csv{guess}")


class Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)


class ModelConfig(Section):
    """Which network, and how its dual head is shaped."""

    backbone: str
    pretrained: bool
    hidden_features: Annotated[int, Field(ge=0)]  # 0: the heads sit on the pooled features
    dropout: Annotated[float, Field(ge=0, lt=1)]

    @model_validator(mode="after")
    def _known(self) -> ModelConfig:
        if not backbone_named(self.backbone).has_pretrained and self.pretrained:
            raise ValueError(f"{self.backbone} has no pretrained weights; set model.pretrained=false")
        return self


class ClaheConfig(Section):
    """Contrast-limited adaptive histogram equalisation, applied once while decoding."""

    enabled: bool
    clip_limit: Annotated[float, Field(gt=0, le=1000)]  # above, OpenCV's own limit overflows
    tiles: Annotated[int, Field(ge=1, le=64)]


Uncertain = Literal["ignore", "zeros", "ones", "smooth"]


class DataConfig(Section):
    """Which shards, which split of them, how they are decoded, and what uncertain labels mean for training.

    The policies for uncertain labels are those of Irvin et al., "CheXpert: A Large Chest Radiograph Dataset with
    Uncertainty Labels and Expert Comparison", AAAI 2019: U-Ignore, U-Zeros and U-Ones; "smooth" trains towards a
    probability of 0.7, as U-Ones with label smoothing in Pham et al. (arXiv:1911.06475). NIH ChestX-ray14 has no
    uncertain labels.
    """

    dataset: str  # USER/NAME@<40-hex sha> or a folder
    split: str  # one of SPLIT_RULES, or the path of a patient_id,split table
    validation_share: Annotated[float, Field(gt=0, lt=1)]  # with `official`: of the patients outside its test list
    image_size: Annotated[int, Field(ge=32, le=1024)]
    clahe: ClaheConfig
    placement: Literal["auto", "disk", "memory", "device"]  # of the decoded arrays
    max_train_images: Count | None  # a seeded sample of patients with all of their images
    max_validation_images: Count | None
    uncertain: Uncertain = "ignore"  # the default is for records of runs from before there was a choice

    @model_validator(mode="after")
    def _known_split(self) -> DataConfig:
        check_split_name(self.split)
        return self

    def check_fits(self, side: int, name: str) -> None:
        """Refuse images larger than those of the shards.

        Args:
            side: of the shards' images in pixels, the shorter one.
            name: of the shards.

        Raises:
            UsageError: `image_size` is above `side`.
        """
        if self.image_size > side:
            raise UsageError(
                f"data.image_size {self.image_size} is above the {side} pixels of the images of {name}; set "
                f"data.image_size={side} or less, or build larger shards (chexvision shards build --size "
                f"{self.image_size})"
            )


class AugmentConfig(Section):
    """Ranges that the parameters of each training image are sampled from."""

    hflip: Probability
    rotate_degrees: Annotated[float, Field(ge=0, le=180)]
    translate: Annotated[float, Field(ge=0, le=0.5)]  # share of the side
    shear_degrees: Annotated[float, Field(ge=0, le=45)]
    scale: Annotated[float, Field(ge=0, lt=1)]  # 0.1: between 0.9 and 1.1
    brightness: Annotated[float, Field(ge=0, lt=1)]
    contrast: Annotated[float, Field(ge=0, lt=1)]
    blur: Probability
    blur_sigma: Annotated[float, Field(gt=0, le=4)]  # pixels, the largest
    erase: Probability
    erase_area: Annotated[float, Field(gt=0, le=0.5)]  # share of the image, the largest


class LossConfig(Section):
    """multilabel_weight · BCE over the findings + binary_weight · BCE normal/abnormal."""

    name: Literal["bce", "focal"]
    multilabel_weight: NonNegative
    binary_weight: NonNegative
    label_smoothing: Annotated[float, Field(ge=0, lt=1)]  # a positive's target is 1 minus this, a negative's 0
    focal_gamma: NonNegative
    pos_weight_power: Probability  # 0: unweighted, 1: negatives / positives
    pos_weight_cap: Annotated[float, Field(ge=1)]

    @model_validator(mode="after")
    def _something_to_learn(self) -> LossConfig:
        if self.multilabel_weight + self.binary_weight == 0:
            raise ValueError("multilabel_weight and binary_weight are both 0: nothing would be learned")
        return self


class OptimConfig(Section):
    """AdamW, the effective batch, and clipping."""

    batch_size: Count  # images per optimization step, whatever the hardware
    micro_batch_size: Count  # the most images in one forward pass
    weight_decay: NonNegative
    clip_norm: Positive


class PhaseConfig(Section):
    """Consecutive epochs with their own schedule: linear warm-up to `lr`, then down to `min_lr` at the lowest."""

    epochs: Count
    lr: Positive
    min_lr: NonNegative
    warmup_epochs: NonNegative
    freeze_backbone: bool
    # cosine: half a cosine over the rest of the phase. constant: `lr` throughout. step: times `decay_factor` every
    # `decay_epochs` epochs. plateau: the same after so many epochs without a better validation macro AUROC.
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


class TrainingConfig(Section):
    """Seed, precision, averaging, phases and when to stop."""

    seed: Annotated[int, Field(ge=0, lt=2**32)]
    precision: Literal["auto", "fp32", "fp16", "bf16"]
    compile: bool  # torch.compile; falls back with a warning
    ema_decay: Annotated[float, Field(ge=0, lt=1)]  # of the averaged weights, per step; 0: none
    patience: Count  # epochs without a better validation macro AUROC
    phases: Annotated[tuple[PhaseConfig, ...], Field(min_length=1)]

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
        learns = not all(phase.freeze_backbone for phase in self.training.phases)
        if learns and self.optim.micro_batch_size == 1 and self.data.image_size < 64:
            raise ValueError(
                f"optim.micro_batch_size 1 with data.image_size {self.data.image_size} leaves batch norms a single "
                "value per channel; set optim.micro_batch_size to 2 or more"
            )
        return self


def known_keys(section: type[BaseModel] = Recipe, prefix: str = "") -> Iterator[str]:
    """Every dotted key of a recipe; list entries are written with index 0."""
    for name, field in section.model_fields.items():
        yield f"{prefix}{name}"
        annotation = field.annotation
        if isinstance(annotation, type) and issubclass(annotation, BaseModel):
            yield from known_keys(annotation, f"{prefix}{name}.")
        elif name == "phases":
            yield from known_keys(PhaseConfig, f"{prefix}{name}.0.")
