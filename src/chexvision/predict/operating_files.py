"""``calibration.json`` and ``thresholds.json``, next to a model, an ensemble or an evaluation. Needs no torch."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from chexvision.errors import ChexError
from chexvision.files.atomic import write_text_atomic
from chexvision.files.json_files import read_record
from chexvision.hub.reference import Reference
from chexvision.hub.repo_files import model_file
from chexvision.metrics.calibration import FILE as CALIBRATION_FILE
from chexvision.metrics.calibration import Calibration
from chexvision.metrics.operating_points import OperatingPoints
from chexvision.metrics.thresholds import FILE as THRESHOLDS_FILE
from chexvision.metrics.thresholds import Thresholds


def save_operating_points(points: OperatingPoints, folder: Path) -> None:
    """Write what `load_operating_points` reads."""
    for name, chosen in ((THRESHOLDS_FILE, points.thresholds), (CALIBRATION_FILE, points.calibration)):
        if chosen is not None:
            write_text_atomic(folder / name, chosen.model_dump_json(indent=2) + "\n")


def load_operating_points(reference: Reference, **client: Any) -> OperatingPoints:
    """The calibration and thresholds that the model was published with, as far as there are any.

    Args:
        reference: a folder, or a repository on the Hub.
        client: further options of `huggingface_hub.hf_hub_download`.

    Raises:
        ChexError: they cannot be fetched, are damaged, or do not fit each other.
    """
    calibration = model_file(reference, CALIBRATION_FILE, **client)
    thresholds = model_file(reference, THRESHOLDS_FILE, **client)
    points = OperatingPoints(
        read_record(calibration, Calibration) if calibration else None,
        read_record(thresholds, Thresholds) if thresholds else None,
    )
    if points.thresholds is not None:
        scale = "calibrated" if points.calibration is not None else "raw"
        if points.thresholds.scale != scale:
            raise ChexError(
                f"the thresholds of {reference} are for {points.thresholds.scale} probabilities, but there is "
                f"{'a' if points.calibration else 'no'} {CALIBRATION_FILE}: its files do not belong together"
            )
    return points
