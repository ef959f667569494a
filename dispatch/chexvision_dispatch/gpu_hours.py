"""About how long a recipe takes on Kaggle's two T4s: measured in an earlier run's history, or else estimated."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from statistics import median
from typing import Any

from pydantic import (
    AliasChoices,
    AliasPath,
    BaseModel,
    ConfigDict,
    Field,
    TypeAdapter,
    ValidationError,
    field_validator,
)

from chexvision.artifact.metrics_file import read_metrics
from chexvision.backbones import TIMM, facts
from chexvision.config.data_config import DataConfig
from chexvision.config.recipe import PhaseConfig, Recipe, earlier_freeze
from chexvision.errors import ChexError
from chexvision.hub.reference import RepoRef, parse_reference
from chexvision_dispatch import run_records as records
from chexvision_dispatch.kernels import TRAIN
from chexvision_dispatch.run_records import RunRecord
from chexvision_dispatch.targets.target import GpuHours, Target

# Images of the release for training and validation, by the rule of the split; see `_images`.
_IMAGES = {"official": (82_346, 4_178), "chexnet": (78_468, 11_219), "patient": (78_484, 11_212)}
# Minutes of training per 75,000 images of 224² on two T4s in mixed precision: estimates for DenseNet-121, ConvNeXt-T,
# EVA-X-S and Swin-B. The others are in proportion to ConvNeXt-T in timm's benchmark of training on an RTX 3090
# (results/benchmark-train-amp-nhwc-pt112-cu113-rtx3090.csv of its repository), which agrees on these within 10 %.
_MINUTES = {
    "densenet121": 3.0,
    "convnext_tiny": 3.0,
    "eva_x_small": 3.0,
    "swin_base_patch4_window12_384": 9.0,
    "resnet50": 2.0,
    "resnet152": 4.9,
    "inception_v3": 1.8,
    "vit_base_patch16_224": 6.3,
    "vit_small_patch16_224": 2.3,
    "swin_tiny_patch4_window7_224": 3.8,
    "tf_efficientnet_b4": 3.5,
    "tf_efficientnetv2_s": 2.8,
}
_MINUTES_IMAGES, _MINUTES_SIZE = 75_000, 224
_MINUTES_PER_GMAC = 0.5  # the median of those above at 224²
_SLOWEST = max(_MINUTES.values())
# Of a step's time: the backward pass takes twice as long as the forward pass, and about a quarter of it in the last
# stage alone.
_SHARE: dict[str | int, float] = {"none": 1.0, "partial": 0.5, "all": 1 / 3}
_FORWARD = 1 / 3
_OVERHEAD_HOURS = 0.25  # installing, downloading, decoding, measuring and publishing
_TRIED_RUNS = 5  # newest first
_FILES = ("run.json", "history.json", "metrics.json")


class _Part(BaseModel):
    # Runs of other versions of this package are measurements, too.
    model_config = ConfigDict(extra="ignore", frozen=True)


class _Epoch(_Part):
    phase: int = Field(ge=1)
    train_images_per_second: float = Field(gt=0, allow_inf_nan=False)
    validation_seconds: float = Field(ge=0, allow_inf_nan=False)


class _Phase(_Part):
    image_size: int | None = None
    freeze: str | int = Field(validation_alias=AliasChoices("freeze", "freeze_backbone"))

    @field_validator("freeze", mode="before")
    @classmethod
    def _earlier(cls, value: object) -> object:
        return earlier_freeze(value)


class _Run(_Part):
    model: dict[str, Any] = Field(validation_alias=AliasPath("recipe", "model"))
    image_size: int = Field(validation_alias=AliasPath("recipe", "data", "image_size"))
    phases: tuple[_Phase, ...] = Field(validation_alias=AliasPath("recipe", "training", "phases"))


_HISTORY = TypeAdapter(tuple[_Epoch, ...])


def gpu_hours(recipe: Recipe, target: Target) -> GpuHours:
    """Hours of a session's accelerator; early stopping makes a run shorter.

    Args:
        recipe: what is to be trained.
        target: where it will run; a run that ran there on the same accelerator counts as measured.

    Returns:
        From the newest published run that trained the same network at the same image size, with the same of its
        layers frozen; such a figure may refuse a run. Where there is none an estimate, which may not.
    """
    for record in _published_runs(target):
        hours = _measured(record, recipe)
        if hours is not None:
            return GpuHours(hours + _OVERHEAD_HOURS, f"measured in {record.run_id}", measured=True)
    return GpuHours(estimated_hours(recipe), "an estimate: no published run of it was measured yet")


def estimated_hours(recipe: Recipe) -> float:
    """Hours on two T4s by the network's speed alone, if training does not stop early."""
    train = {
        phase: _rate(recipe, phase.image_size) / _SHARE.get(phase.freeze, 1.0) for phase in recipe.training.phases
    }
    networks = 2 if recipe.training.ema_decay else 1  # the average is validated as well
    seconds = _seconds(recipe, lambda phase: train[phase], networks * _FORWARD / _rate(recipe, None))
    if recipe.loss.teacher is not None:  # it predicts the training images once, as large as the student
        seconds += _images(recipe)[0] * _FORWARD / _rate(recipe, None)
    return seconds / 3600 + _OVERHEAD_HOURS


def _rate(recipe: Recipe, image_size: int | None) -> float:
    """Images per second in training, all layers learning; the time goes with the number of pixels."""
    size = image_size or recipe.data.image_size
    minutes = _minutes(recipe.model.backbone) * (size / _MINUTES_SIZE) ** 2
    return _MINUTES_IMAGES / (60 * minutes)


def _minutes(backbone: str) -> float:
    """At 224²; of a network that is not in the tables those of the slowest."""
    known = _MINUTES.get(backbone.removeprefix(TIMM).partition(".")[0])
    if known is not None:
        return known
    network = facts(backbone)
    if network.gmacs is None or network.input_size is None:
        return _SLOWEST
    return _MINUTES_PER_GMAC * network.gmacs * (_MINUTES_SIZE / network.input_size) ** 2


def _images(recipe: Recipe) -> tuple[int, int]:
    """Images of an epoch and of validation, of all data sets together."""
    found = [_images_of(recipe.data.alone(one)) for one in recipe.data.named]
    return sum(train for train, _ in found), sum(validation for _, validation in found)


def _images_of(data: DataConfig) -> tuple[int, int]:
    """Of the complete release; other shards are taken to be as large."""
    train, validation = _IMAGES.get(data.split, _IMAGES["official"])
    if data.split == "official":
        both = train + validation
        train, validation = round(both * (1 - data.validation_share)), round(both * data.validation_share)
    train = min(data.max_train_images or train, round(train * data.train_fraction))
    return train * (2 if data.mirror else 1), min(data.max_validation_images or validation, validation)


def _seconds(recipe: Recipe, rate: Callable[[PhaseConfig], float], validation_seconds_per_image: float) -> float:
    """Of all epochs, at `rate` in images per second of a phase."""
    train, validation = _images(recipe)
    return sum(
        phase.epochs * (train / rate(phase) + validation * validation_seconds_per_image)
        for phase in recipe.training.phases
    )


def _published_runs(target: Target) -> Iterable[RunRecord]:
    """The newest training runs on the accelerator of `target` whose artifact can be downloaded."""
    hardware = target.options.model_dump(mode="json", include=set(target.options.for_gpu))
    # `runs list` is where a damaged record shows; a dispatch does without its measurement.
    mine = [
        record
        for record in records.every(lambda error: None)
        if record.target == target.name
        and record.published is not None
        and record.kernel == TRAIN.name
        and hardware.items() <= record.options.items()
    ]
    return mine[::-1][:_TRIED_RUNS]


def _measured(record: RunRecord, recipe: Recipe) -> float | None:
    """Hours of all epochs at the speed of an earlier run; None where it trained something else, or cannot be read."""
    try:
        run_file, history_file, metrics_file = _files(str(record.published))
        run = _Run.model_validate_json(run_file.read_bytes())
        history = _HISTORY.validate_json(history_file.read_bytes())
        validation = read_metrics(metrics_file).splits.get("validation")
    except (OSError, ValidationError, ChexError):
        return None
    same = run.model == recipe.model.model_dump() and run.image_size == recipe.data.image_size
    if not same or validation is None or not validation.images:
        return None
    rates: dict[tuple[str | int, int | None], list[float]] = {}
    for epoch in history:
        if epoch.phase <= len(run.phases):
            ran = run.phases[epoch.phase - 1]
            rates.setdefault((ran.freeze, ran.image_size), []).append(epoch.train_images_per_second)
    if not {(phase.freeze, phase.image_size) for phase in recipe.training.phases} <= rates.keys():
        return None
    per_image = median(epoch.validation_seconds for epoch in history) / validation.images
    return _seconds(recipe, lambda phase: median(rates[phase.freeze, phase.image_size]), per_image) / 3600


def _files(published: str) -> list[Path]:
    """The small files of a published artifact; raises OSError where one cannot be had."""
    reference = parse_reference(published)
    if not isinstance(reference, RepoRef):
        return [reference / name for name in _FILES]
    from huggingface_hub import hf_hub_download
    from huggingface_hub.utils.tqdm import disable_progress_bars

    disable_progress_bars()  # for a few kB
    try:
        return [Path(hf_hub_download(reference.repo_id, name, revision=reference.revision)) for name in _FILES]
    except Exception as error:
        # Each generation of the client lets another HTTP library's errors out.
        raise OSError(f"{published} cannot be read") from error
