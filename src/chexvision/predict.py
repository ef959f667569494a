"""A published model's answer for image files, prepared exactly as its training images were."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from chexvision.data.augment import plain
from chexvision.errors import ChexError, UsageError
from chexvision.hub.reference import Reference, RepoRef
from chexvision.models.classifier import CheXVision
from chexvision.radiograph import Grey, decode_grey, make_clahe, resize_area

_BATCH = 16


@dataclass(frozen=True, slots=True)
class Prediction:
    """Probabilities for one image.

    Args:
        image: its file.
        abnormal: that there is any finding, in [0, 1].
        findings: of each finding, in [0, 1].
    """

    image: Path
    abnormal: float
    findings: dict[str, float]

    def as_dict(self) -> dict[str, object]:
        """For JSON."""
        return {"image": str(self.image), "abnormal": self.abnormal, "findings": self.findings}


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
def predict_files(model: CheXVision, paths: Sequence[Path]) -> list[Prediction]:
    """Predict image files, on a GPU where there is one.

    Raises:
        UsageError: a file is missing or no image; nothing is predicted then.
    """
    images = [prepare(model, path) for path in paths]
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    model = model.to(device).eval()
    predictions = []
    for first in range(0, len(paths), _BATCH):
        batch = torch.from_numpy(np.stack(images[first : first + _BATCH])).to(device)
        logits = model(plain(batch))
        findings = logits["multilabel_logits"].sigmoid().tolist()
        abnormal = logits["binary_logits"].sigmoid().squeeze(1).tolist()
        for path, row, normal in zip(paths[first : first + _BATCH], findings, abnormal, strict=True):
            predictions.append(Prediction(path, normal, dict(zip(model.findings, row, strict=True))))
    return predictions
