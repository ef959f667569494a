"""A published model's answer for image files, prepared exactly as its training images were."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch

from chexvision.data.augment import plain
from chexvision.errors import ChexError, UsageError
from chexvision.evaluation.calibration import FILE as CALIBRATION_FILE
from chexvision.evaluation.calibration import read_calibration
from chexvision.evaluation.judge import Rules
from chexvision.evaluation.records import ABNORMAL
from chexvision.evaluation.thresholds import FILE as THRESHOLDS_FILE
from chexvision.evaluation.thresholds import read_thresholds
from chexvision.hub.reference import Reference, RepoRef
from chexvision.models.classifier import CheXVision
from chexvision.radiograph import Grey, decode_grey, make_clahe, resize_area

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

    def as_dict(self) -> dict[str, object]:
        """For JSON."""
        return {
            "image": str(self.image),
            "abnormal": self.abnormal,
            "findings": self.findings,
            "calls": self.calls,
        }


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


def prepare(model: CheXVision, path: Path) -> Grey:
    """Read an image file as uint8[S, S], S being the model's image size.

    Raises:
        UsageError: there is no such file, or it is no image.
    """
    try:
        grey = resize_area(decode_grey(path.read_bytes()), model.image_size)
    except (OSError, ValueError) as error:
        raise UsageError(
            f"{path}: {getattr(error, 'strerror', None) or error}; give a PNG or JPEG radiograph"
        ) from None
    if not model.clahe_clip_limit:
        return grey
    return np.asarray(make_clahe(model.clahe_clip_limit, model.clahe_tiles).apply(grey), dtype=np.uint8)


@torch.inference_mode()
def predict_files(model: CheXVision, paths: Sequence[Path], rules: Rules | None = None) -> list[Prediction]:
    """Predict image files, on a GPU where there is one.

    Args:
        model: from `load_model`.
        paths: PNG or JPEG files.
        rules: from `load_rules`; without them probabilities are raw and nothing is called.

    Raises:
        UsageError: a file is missing or no image; nothing is predicted then.
    """
    images = [prepare(model, path) for path in paths]
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    model = model.to(device).eval()
    names = (*model.findings, ABNORMAL)
    rules = rules or Rules()
    cuts = rules.thresholds.known if rules.thresholds else {}
    predictions = []
    for first in range(0, len(paths), _BATCH):
        batch = torch.from_numpy(np.stack(images[first : first + _BATCH])).to(device)
        logits = model(plain(batch))
        both = torch.cat([logits["multilabel_logits"], logits["binary_logits"]], dim=1)
        probabilities = rules.calibrate(names, both.sigmoid().double().cpu().numpy())
        for path, row in zip(paths[first : first + _BATCH], probabilities.tolist(), strict=True):
            by_name = dict(zip(names, row, strict=True))
            calls = {name: by_name[name] >= cut for name, cut in cuts.items() if name in by_name}
            predictions.append(Prediction(path, by_name.pop(ABNORMAL), by_name, calls))
    return predictions
