"""The recipe's sections about images: which shards, how they are decoded and augmented; and what all sections share.

Values are in ``configs/*.yaml``; the classes here define which keys exist, their types and their bounds. A key with a
default came after the first release: recipes in records of older runs lack it.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Sequence
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

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


class ClaheConfig(Section):
    """Contrast-limited adaptive histogram equalisation, applied once while decoding."""

    enabled: bool
    clip_limit: Annotated[float, Field(gt=0, le=1000)]  # above, OpenCV's own limit overflows
    tiles: Annotated[int, Field(ge=1, le=64)]


Uncertain = Literal["ignore", "zeros", "ones", "smooth"]


class DatasetConfig(Section):
    """A data set of a mixture."""

    name: str  # USER/NAME@<40-hex sha> or a folder
    weight: Positive = 1.0  # multiplies how often its images are sampled
    split: str | None = None  # as data.split, which counts where it is null

    @model_validator(mode="after")
    def _known_split(self) -> DatasetConfig:
        if self.split is not None:
            check_split_name(self.split)
        return self


class DataConfig(Section):
    """Which shards, which split of them, how they are decoded, and what uncertain labels mean for training.

    A recipe names one data set, `dataset`, or a mixture, `datasets`. A training image comes from a data set with a
    probability proportional to weight · n ** (1 / temperature), n being its number of training images: 1 takes every
    image equally often, a larger one takes more of the small sets. Arivazhagan et al., "Massively Multilingual Neural
    Machine Translation in the Wild", arXiv:1907.05019, who use 5; mT5 (Xue et al., NAACL 2021) and XLM-R (Conneau et
    al., ACL 2020) have the exponent 0.3, a temperature of 3.3.

    The policies for uncertain labels are those of Irvin et al., "CheXpert: A Large Chest Radiograph Dataset with
    Uncertainty Labels and Expert Comparison", AAAI 2019: U-Ignore, U-Zeros and U-Ones; "smooth" trains towards a
    probability of 0.7, as U-Ones with label smoothing in Pham et al. (arXiv:1911.06475). NIH ChestX-ray14 has no
    uncertain labels.
    """

    dataset: str | None  # USER/NAME@<40-hex sha> or a folder; null in a mixture
    split: str  # one of SPLIT_RULES, or the path of a patient_id,split table
    validation_share: Annotated[float, Field(gt=0, lt=1)]  # with `official`: of the patients outside its test list
    image_size: Annotated[int, Field(ge=32, le=1024)]
    clahe: ClaheConfig
    # Of the decoded arrays; nodes: each machine of a run has a part of the training images.
    placement: Literal["auto", "disk", "memory", "device", "nodes"]
    max_train_images: Count | None  # a seeded sample of patients with all of their images
    max_validation_images: Count | None
    uncertain: Uncertain = "ignore"
    # Of the training patients, a seeded sample with all of their images; `max_train_images` then limits these.
    train_fraction: Annotated[float, Field(gt=0, le=1)] = 1.0
    mirror: bool = False  # each training image twice per epoch: as it is, and with left and right exchanged
    # A mixture, in place of `dataset`. Left out of records of one data set, which are the same bytes as ever.
    datasets: Annotated[tuple[DatasetConfig, ...], Field(exclude_if=lambda value: not value)] = ()
    temperature: Annotated[float, Field(gt=0, le=100, exclude_if=lambda value: value == 1)] = 1.0  # of the mixture

    @model_validator(mode="after")
    def _known_split(self) -> DataConfig:
        check_split_name(self.split)
        return self

    @model_validator(mode="after")
    def _one_or_several(self) -> DataConfig:
        if (self.dataset is None) == (not self.datasets):
            both = "both, name the data set in datasets" if self.datasets else "neither, name the data"
            raise ValueError(f"dataset (one data set) or datasets (a mixture): there is {both}")
        names = [one.name for one in self.datasets]
        twice = next((name for number, name in enumerate(names) if name in names[:number]), None)
        if twice is not None:
            raise ValueError(f"datasets: {twice} is named twice; give it a weight instead")
        if len(names) == 1 and self.datasets[0].split is not None:
            raise ValueError(f"datasets: {names[0]} is the only one; give its split in data.split")
        return self

    @property
    def named(self) -> tuple[DatasetConfig, ...]:
        """The data sets, one or several."""
        return self.datasets or (DatasetConfig(name=str(self.dataset)),)

    def alone(self, one: DatasetConfig) -> DataConfig:
        """What this config says about one of its data sets."""
        return self.model_copy(update={"dataset": one.name, "datasets": (), "split": one.split or self.split})

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
    # Random resized crop, before all other geometry: the smallest share of the area that a crop keeps, 1 for no crop,
    # and the factor by which its sides differ at most. Szegedy et al., "Going Deeper with Convolutions", CVPR 2015.
    crop_scale: Annotated[float, Field(gt=0, le=1)] = 1.0
    crop_ratio: Annotated[float, Field(ge=1, le=4)] = 4 / 3
    # RandAugment: operations per image (0: none), of which half are applied, their magnitude of 0 to 10, and its
    # standard deviation. 2, 6, 0.5 are timm's rand-m6-mstd0.5-inc1. Cubuk et al., "RandAugment: Practical Automated
    # Data Augmentation with a Reduced Search Space", NeurIPS 2020.
    randaugment_ops: Annotated[int, Field(ge=0, le=8)] = 0
    randaugment_magnitude: Annotated[float, Field(ge=0, le=10)] = 6.0
    randaugment_std: Annotated[float, Field(ge=0, le=10)] = 0.5
    # Parameter of the Beta distribution, 0 for none; targets are mixed as the images are, and with both each step
    # uses one of the two. Zhang et al., "mixup", ICLR 2018; Yun et al., "CutMix", ICCV 2019.
    mixup_alpha: Annotated[float, Field(ge=0, le=10)] = 0.0
    cutmix_alpha: Annotated[float, Field(ge=0, le=10)] = 0.0
    mix_probability: Probability = 1.0  # of a step
