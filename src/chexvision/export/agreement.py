"""Whether an exported file computes what torch computes: measured on images before the file gets its name."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from chexvision.artifact.load import Ensemble
from chexvision.errors import ChexError
from chexvision.images.radiograph import Grey, resize_area
from chexvision.inference.member_maps import explain_members
from chexvision.inference.torch_engine import TorchEngine
from chexvision.metrics.operating_points import OperatingPoints
from chexvision.metrics.ranking import Floats
from chexvision.predict.input_check import InputCheck
from chexvision.runtime.export_info import INPUT
from chexvision.synthetic.anatomy import sample_chest
from chexvision.synthetic.render import render_radiograph

# float32 sums in another order change a logit by about 1e-5, and a probability by a quarter of that.
TOLERANCE = 1e-4
# In area averaging sums in another order decide which of two gray levels a mean of exactly one half becomes: up to
# one of 1,000 pixels then differs by one level.
TOLERANCE_OF_ORIGINALS = 1e-2
TOLERANCE_OF_MAPS = 1e-2  # of an image's largest value; where a ReLU is near 0 its gradient is 0 or 1
TOLERANCE_OF_CHECKS = 1e-2  # of a value, or of 1
_BATCH = 4
# Sides in units of the model's: as the model has them, several times larger, not square, and smaller in one or both.
_SIZES = ((1.0, 1.0), (3.2, 3.2), (2.6, 2.1), (1.0, 2.0), (0.7, 0.7), (0.6, 1.5))


@dataclass(frozen=True, slots=True)
class Expected:
    """What torch computes for N images that were resized to the model's side, and for their originals.

    Args:
        originals: uint8[H, W] each.
        resized: uint8[N, side, side].
        raw: float64[N, K + 1].
        calibrated: float64[N, K + 1].
        maps: float32[N, K + 1, h, w].
        checks: float64[N, T]; None of a model without an input check.
    """

    originals: tuple[Grey, ...]
    resized: NDArray[np.uint8]
    raw: Floats
    calibrated: Floats
    maps: NDArray[np.float32]
    checks: Floats | None


@dataclass(frozen=True, slots=True)
class Difference:
    """The largest differences of a file from torch.

    Args:
        probabilities: raw or calibrated, of images that OpenCV resized.
        originals: of images that the graph resized.
        maps: relative to the largest value of each image; None where the file has no maps.
        checks: relative to the value where that is above 1; None without an input check.
    """

    probabilities: float
    originals: float
    maps: float | None
    checks: float | None

    def refuse(self) -> None:
        """Raise ChexError if one is above its tolerance."""
        limits = {
            "probabilities": TOLERANCE,
            "originals": TOLERANCE_OF_ORIGINALS,
            "maps": TOLERANCE_OF_MAPS,
            "checks": TOLERANCE_OF_CHECKS,
        }
        for name, limit in limits.items():
            found = getattr(self, name)
            if found is not None and not found <= limit:
                what = "probabilities of originals" if name == "originals" else name
                raise ChexError(
                    f"the exported file differs from torch: its {what} by {found:.2g}, more than {limit:g}; nothing "
                    "was written. Try other versions of torch, onnxscript and onnxruntime"
                )


def rendered_images(side: int) -> list[Grey]:
    """Synthetic radiographs of several sizes, equal in every call."""
    images = []
    for i, (high, wide) in enumerate(_SIZES):
        random = np.random.default_rng([20, i])
        largest = max(64, round(side * max(high, wide)))
        gray, _ = render_radiograph(random, sample_chest(random, bool(i % 2)), (), "AP" if i % 2 else "PA", largest)
        shape = (round(side * wide), round(side * high))
        images.append(np.asarray(cv2.resize(gray, shape, interpolation=cv2.INTER_AREA), np.uint8))
    return images


def expected(
    ensemble: Ensemble, points: OperatingPoints, check: InputCheck | None, side: int, originals: Sequence[Grey]
) -> Expected:
    """Compute with torch, on the CPU in float32, what a file has to give for `originals`."""
    engine = TorchEngine(ensemble, "cpu", check=check)
    names = ensemble.label_space.outputs
    every = np.arange(len(names))
    raw, maps, checks = [], [], []
    for batch in _batches(originals):
        prepared = [engine.prepare(gray) for gray in batch]
        outputs, heat = explain_members(ensemble, engine.pixels(prepared), np.tile(every, (len(batch), 1)))
        raw.append(outputs.probabilities)
        maps.append(heat.values)
        found = engine.run(prepared).checks if check is not None else None
        checks += [] if found is None else [found]
    joined = np.concatenate(raw)
    return Expected(
        tuple(originals),
        np.stack([resize_area(gray, side) for gray in originals]),
        joined,
        points.calibrate(names, joined),
        np.concatenate(maps),
        np.concatenate(checks) if checks else None,
    )


def compare(path: Path, wanted: Expected) -> Difference:
    """Measure how far the file at `path`, computed by onnxruntime, is from torch."""
    session = open_session(path)
    names = [output.name for output in session.get_outputs()]
    found: dict[str, NDArray[np.float32]] = {}
    parts = [session.run(names, {INPUT: batch}) for batch in _batches(wanted.resized)]
    for name, values in zip(names, zip(*parts, strict=True), strict=True):
        found[name] = np.concatenate(values)
    scalar = ["probabilities", "raw"]
    single = [session.run(scalar, {INPUT: gray[None]}, without_maps()) for gray in wanted.originals]
    of_originals = [np.concatenate(values) for values in zip(*single, strict=True)]
    largest = [
        max(_largest(calibrated - wanted.calibrated), _largest(raw - wanted.raw))
        for calibrated, raw in ((found["probabilities"], found["raw"]), of_originals)
    ]
    maps = checks = None
    if "maps" in found:
        scale = np.maximum(wanted.maps.max(axis=(1, 2, 3), keepdims=True), np.finfo(np.float32).tiny)
        maps = _largest((found["maps"] - wanted.maps) / scale)
    if wanted.checks is not None:
        checks = _largest((found["checks"] - wanted.checks) / np.maximum(np.abs(wanted.checks), 1))
    return Difference(largest[0], largest[1], maps, checks)


def open_session(path: Path) -> Any:
    """An `onnxruntime.InferenceSession` on the CPU that prints nothing.

    Raises:
        ChexError: onnxruntime cannot compute the file.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    try:
        return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    except Exception as error:
        raise ChexError(f"onnxruntime cannot load the exported file: {' '.join(str(error).split())[:200]}") from error


def without_maps() -> Any:
    """Options of a session's `run` that compute nothing but the outputs asked for."""
    import onnxruntime

    options = onnxruntime.RunOptions()
    options.only_execute_path_to_fetches = True
    return options


def _largest(differences: Floats | NDArray[np.float32]) -> float:
    value = float(np.abs(differences).max())
    return value if np.isfinite(value) else float("inf")


def _batches(images: Sequence[Grey] | NDArray[np.uint8]) -> Iterator[Any]:
    for first in range(0, len(images), _BATCH):
        yield images[first : first + _BATCH]
