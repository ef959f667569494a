"""A published model and what lies beside it, from a folder or the Hub."""

from __future__ import annotations

from pathlib import Path

from chexvision.errors import ChexError, UsageError
from chexvision.evaluation.calibration import FILE as CALIBRATION_FILE
from chexvision.evaluation.calibration import read_calibration
from chexvision.evaluation.judge import Rules
from chexvision.evaluation.thresholds import FILE as THRESHOLDS_FILE
from chexvision.evaluation.thresholds import read_thresholds
from chexvision.hub.reference import Reference, RepoRef
from chexvision.models.classifier import CheXVision


def load_model(reference: Reference) -> CheXVision:
    """The model in a folder or on the Hub.

    Raises:
        ChexError: it cannot be had, or is something else.
    """
    if isinstance(reference, Path):
        if not reference.is_dir():
            raise UsageError(f"no model folder {reference}; name a folder, or USER/REPO[@REVISION] on the Hub")
        return CheXVision.from_pretrained(reference)
    return _from_hub(reference)


def _from_hub(reference: RepoRef) -> CheXVision:
    try:
        return CheXVision.from_pretrained(reference.repo_id, revision=reference.revision)
    except ChexError:
        raise
    # The client's two generations raise errors of different HTTP libraries.
    except Exception as error:
        raise ChexError(
            f"could not load {reference}: {' '.join(str(error).split())[:300]}; check the name, the revision, the "
            "network and, for a private repository, HF_TOKEN"
        ) from error


def load_rules(reference: Reference) -> Rules:
    """The calibration and thresholds that the model was published with, as far as there are any.

    Raises:
        ChexError: they cannot be had, or are damaged.
    """
    calibration = artifact_file(reference, CALIBRATION_FILE)
    thresholds = artifact_file(reference, THRESHOLDS_FILE)
    return Rules(
        read_calibration(calibration) if calibration else None, read_thresholds(thresholds) if thresholds else None
    )


def artifact_file(reference: Reference, name: str) -> Path | None:
    """A small file of a published model, or None where it was published without.

    Raises:
        ChexError: the Hub could not be asked.
    """
    if isinstance(reference, Path):
        path = reference / name
        return path if path.is_file() else None
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import EntryNotFoundError

    try:
        return Path(hf_hub_download(reference.repo_id, name, revision=reference.revision))
    except EntryNotFoundError:
        return None
    # The client's two generations raise errors of different HTTP libraries.
    except Exception as error:
        raise ChexError(f"could not fetch {name} of {reference}: {' '.join(str(error).split())[:300]}") from error
