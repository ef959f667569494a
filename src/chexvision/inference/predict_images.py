"""A published model's predictions of image files, prepared exactly as its training images were."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from accelerate import Accelerator

from chexvision.inference.predict_split import predict_paths
from chexvision.metrics.operating_points import OperatingPoints
from chexvision.models.classifier import CheXVision

_BATCH = 16


@dataclass(frozen=True, slots=True)
class Prediction:
    """Probabilities for one image, calibrated where the model was published with a calibration.

    Args:
        image: its file.
        abnormal: that there is any finding, in [0, 1].
        findings: of each finding, in [0, 1].
        calls: by finding, and "Abnormal": whether the probability reaches the model's threshold; without those
            that have none.
    """

    image: Path
    abnormal: float
    findings: dict[str, float]
    calls: dict[str, bool] = field(default_factory=dict)


def predict_files(
    model: CheXVision,
    paths: Sequence[Path],
    accelerator: Accelerator,
    points: OperatingPoints | None = None,
    on_batch: Callable[[int], None] | None = None,
) -> list[Prediction]:
    """Predict image files.

    Args:
        model: from `load_model`.
        paths: PNG or JPEG files.
        accelerator: gives device and precision.
        points: from `load_operating_points`; without them probabilities are raw and nothing is called.
        on_batch: called with how many more images are done, for a progress bar.

    Raises:
        UsageError: a file is missing or not an image.
    """
    raw = predict_paths(model.to(accelerator.device).eval(), paths, accelerator, _BATCH, on_batch=on_batch)
    names = model.label_space.outputs
    points = points or OperatingPoints()
    thresholds = points.thresholds.known if points.thresholds else {}
    predictions = []
    for path, row in zip(paths, points.calibrate(names, raw).tolist(), strict=True):
        by_name = dict(zip(names, row, strict=True))
        calls = {name: by_name[name] >= threshold for name, threshold in thresholds.items() if name in by_name}
        predictions.append(Prediction(path, by_name.pop(model.label_space.abnormal), by_name, calls))
    return predictions
