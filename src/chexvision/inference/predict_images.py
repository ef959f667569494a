"""A published model's or ensemble's predictions of image files, prepared exactly as its training images were."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from accelerate import Accelerator

from chexvision.artifact.load import Ensemble
from chexvision.config.test_time import Tta
from chexvision.inference.predict_members import predict_images
from chexvision.metrics.operating_points import OperatingPoints

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
    ensemble: Ensemble,
    paths: Sequence[Path],
    accelerator: Accelerator,
    points: OperatingPoints | None = None,
    on_batch: Callable[[int], None] | None = None,
    tta: Tta = "none",
) -> list[Prediction]:
    """Predict image files.

    Args:
        ensemble: from `load_published`.
        paths: PNG or JPEG files.
        accelerator: gives device and precision.
        points: of `load_published`; without them probabilities are raw and nothing is called.
        on_batch: called with how many more images a member is done with, for a progress bar.
        tta: the test-time augmentation.

    Raises:
        UsageError: a file is missing or not an image.
    """
    ensemble = ensemble.to(accelerator.device)
    raw = predict_images(ensemble, paths, accelerator, _BATCH, tta=tta, on_batch=on_batch)
    names = ensemble.label_space.outputs
    points = points or OperatingPoints()
    thresholds = points.thresholds.known if points.thresholds else {}
    predictions = []
    for path, row in zip(paths, points.calibrate(names, raw).tolist(), strict=True):
        by_name = dict(zip(names, row, strict=True))
        calls = {name: by_name[name] >= threshold for name, threshold in thresholds.items() if name in by_name}
        predictions.append(Prediction(path, by_name.pop(ensemble.label_space.abnormal), by_name, calls))
    return predictions
