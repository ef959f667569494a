"""A published model and what lies beside it, from a folder or the Hub."""

from __future__ import annotations

from pathlib import Path

from chexvision.errors import ChexError
from chexvision.hub.reference import Reference
from chexvision.hub.repo_files import at_commit, model_file
from chexvision.metrics.calibration import FILE as CALIBRATION_FILE
from chexvision.metrics.calibration import read_calibration
from chexvision.metrics.operating_points import OperatingPoints
from chexvision.metrics.thresholds import FILE as THRESHOLDS_FILE
from chexvision.metrics.thresholds import read_thresholds
from chexvision.models.classifier import CheXVision


def load_published(reference: Reference) -> tuple[CheXVision, OperatingPoints]:
    """A model with the calibration and thresholds that it was published with, all of one commit.

    Raises:
        ChexError: any of it cannot be had, is damaged, or does not belong together.
    """
    reference = at_commit(reference)
    model, rules = load_model(reference), load_operating_points(reference)
    if rules.calibration is not None:
        missing = [name for name in model.label_space.outputs if name not in rules.calibration.curves]
        if missing:
            raise ChexError(
                f"{CALIBRATION_FILE} of {reference} does not name {missing[0]}: it belongs to another model"
            )
    return model, rules


def load_model(reference: Reference) -> CheXVision:
    """The model in a folder or on the Hub.

    Raises:
        UsageError: there is no such folder, or a revision of a folder is named.
        ChexError: it cannot be had, or is something else.
    """
    if isinstance(reference, Path):
        return CheXVision.from_pretrained(reference)
    return CheXVision.from_pretrained(reference.repo_id, revision=reference.revision)


def load_operating_points(reference: Reference) -> OperatingPoints:
    """The calibration and thresholds that the model was published with, as far as there are any.

    Raises:
        ChexError: they cannot be had, are damaged, or do not fit each other.
    """
    calibration = artifact_file(reference, CALIBRATION_FILE)
    thresholds = artifact_file(reference, THRESHOLDS_FILE)
    rules = OperatingPoints(
        read_calibration(calibration) if calibration else None, read_thresholds(thresholds) if thresholds else None
    )
    if rules.thresholds is not None:
        scale = "calibrated" if rules.calibration is not None else "raw"
        if rules.thresholds.scale != scale:
            raise ChexError(
                f"the thresholds of {reference} are for {rules.thresholds.scale} probabilities, but there is "
                f"{'a' if rules.calibration else 'no'} {CALIBRATION_FILE}: its files do not belong together"
            )
    return rules


def artifact_file(reference: Reference, name: str) -> Path | None:
    """A small file of a published model, or None where it was published without.

    Raises:
        ChexError: the Hub could not be asked.
    """
    return model_file(reference, name)
