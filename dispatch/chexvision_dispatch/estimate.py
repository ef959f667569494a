"""About how long a recipe takes on Kaggle's two T4s, known before anything runs."""

from __future__ import annotations

from chexvision.config import Recipe

# Images of the release: those of its official training and validation list, a ninth of them for validation.
_TRAIN_IMAGES, _VALIDATION_IMAGES = 78_000, 9_000
# Images a second in training at 320², mixed precision, on two T4s; an estimate, not a measurement.
_IMAGES_PER_SECOND = {"densenet121": 220.0, "se_resnet34": 330.0}
_SLOWEST = min(_IMAGES_PER_SECOND.values())
_VALIDATION_SPEEDUP = 3.0
_OVERHEAD_HOURS = 0.25  # installing, downloading, decoding, measuring and publishing


def gpu_hours(recipe: Recipe) -> float:
    """Hours of a session's accelerator, to be taken for no more than their order: early stopping shortens a run."""
    train = min(recipe.data.max_train_images or _TRAIN_IMAGES, _TRAIN_IMAGES)
    validation = min(recipe.data.max_validation_images or _VALIDATION_IMAGES, _VALIDATION_IMAGES)
    rate = _IMAGES_PER_SECOND.get(recipe.model.backbone, _SLOWEST) * (320 / recipe.data.image_size) ** 2
    seconds = recipe.training.epochs * (train + validation / _VALIDATION_SPEEDUP) / rate
    return seconds / 3600 + _OVERHEAD_HOURS
