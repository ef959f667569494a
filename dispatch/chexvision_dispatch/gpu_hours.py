"""About how long a recipe takes on Kaggle's two T4s: measured in an earlier run's history, or else a guess."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
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
from chexvision.config.recipe import Recipe, earlier_freeze
from chexvision.errors import ChexError
from chexvision.hub.reference import RepoRef, parse_reference
from chexvision_dispatch import run_records as records
from chexvision_dispatch.kernels import TRAIN
from chexvision_dispatch.run_records import RunRecord
from chexvision_dispatch.targets.target import GpuHours, Target

# Images of the release: those of its official training and validation list, a twentieth of them for validation.
_TRAIN_IMAGES, _VALIDATION_IMAGES = 82_000, 4_500
# Images per second in training at 320², mixed precision, on two T4s: a guess, to be taken for its order alone.
_IMAGES_PER_SECOND = {"timm/densenet121.tv_in1k": 220.0, "se_resnet34": 330.0}
_SLOWEST = min(_IMAGES_PER_SECOND.values())
_VALIDATION_SPEEDUP = 3.0
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
        From the newest published run that trained the same network at the same image size, with its backbone frozen
        and not as the recipe does; such a figure may refuse a run. Where there is none a guess, which may not.
    """
    for record in _published_runs(target):
        hours = _measured(record, recipe)
        if hours is not None:
            return GpuHours(hours + _OVERHEAD_HOURS, f"measured in {record.run_id}", measured=True)
    rate = _IMAGES_PER_SECOND.get(recipe.model.backbone, _SLOWEST) * (320 / recipe.data.image_size) ** 2
    rates: dict[str | int, float] = {phase.freeze: rate for phase in recipe.training.phases}
    seconds = _seconds(recipe, rates, 1 / (rate * _VALIDATION_SPEEDUP))
    return GpuHours(seconds / 3600 + _OVERHEAD_HOURS, "a guess: no published run of it was measured yet")


def _seconds(recipe: Recipe, rates: Mapping[str | int, float], validation_seconds_per_image: float) -> float:
    """Of all epochs, at `rates` in images per second by whether the backbone is frozen."""
    train = min(recipe.data.max_train_images or _TRAIN_IMAGES, _TRAIN_IMAGES)
    validation = min(recipe.data.max_validation_images or _VALIDATION_IMAGES, _VALIDATION_IMAGES)
    return sum(
        phase.epochs * (train / rates[phase.freeze] + validation * validation_seconds_per_image)
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
    rates: dict[str | int, list[float]] = {}
    for epoch in history:
        if epoch.phase <= len(run.phases):
            rates.setdefault(run.phases[epoch.phase - 1].freeze, []).append(epoch.train_images_per_second)
    if not {phase.freeze for phase in recipe.training.phases} <= rates.keys():
        return None
    per_image = median(epoch.validation_seconds for epoch in history) / validation.images
    return _seconds(recipe, {frozen: median(rate) for frozen, rate in rates.items()}, per_image) / 3600


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
