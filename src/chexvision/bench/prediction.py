"""Radiographs in files to probabilities, by each engine, compared with the usual script and the torch engine."""

from __future__ import annotations

import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import cycle, islice
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torchvision.transforms import v2

from chexvision.artifact.load import load_ensemble
from chexvision.bench.bench_report import Figure, Report, Row
from chexvision.errors import UsageError
from chexvision.hub.reference import Reference
from chexvision.images.sources import find_images
from chexvision.inference.load_predictor import load_predictor
from chexvision.metrics.ranking import Floats
from chexvision.models.classifier import CheXVision
from chexvision.predict.predictor import Predictor
from chexvision.predict.published import read_published
from chexvision.runtime.export_info import QUANTIZED
from chexvision.runtime.exported import find_export
from chexvision.runtime.onnx_engine import OnnxEngine
from chexvision.runtime.openvino_engine import OpenVinoEngine

_USUAL, _TORCH = "usual script", "torch engine"


@dataclass(frozen=True, slots=True)
class _Way:
    """One way from files to raw or calibrated probabilities float64[N, K + 1], with its measurements."""

    predict: Callable[[Sequence[Path]], Floats]
    seconds: list[float] = field(default_factory=list)  # of each round
    cpu_seconds: list[float] = field(default_factory=list)
    found: list[Floats] = field(default_factory=list)

    def measure(self, paths: Sequence[Path]) -> None:
        """Predict all files once more."""
        began, cpu = time.perf_counter(), time.process_time()
        self.found.append(self.predict(paths))
        self.seconds.append(time.perf_counter() - began)
        self.cpu_seconds.append(time.process_time() - cpu)


def bench_predict(model: Reference, images: Path, count: int, rounds: int) -> Report:
    """Measure prediction from files on the CPU, with all cores of this process, in rounds of every engine.

    Ratios are medians over the rounds: each compares two ways within one round. "first answer" is the time from the
    start of ``chexvision predict`` to its end, for one image, and the CPU time of that process.

    Args:
        model: a published single model that was exported.
        images: a folder of radiographs.
        count: images per round; fewer files are repeated.
        rounds: after one that warms up.

    Raises:
        UsageError: the model was not exported, or the folder contains no images.
    """
    files = [found.file for found in find_images([images]).images if found.file is not None]
    if not files:
        raise UsageError(f"{images} contains no image files; pass a folder of radiographs")
    paths = list(islice(cycle(files), count))
    ways = _ways(model)
    for _ in range(rounds + 1):
        for way in ways.values():
            way.measure(paths)
    rows = []
    for name, way in ways.items():
        figures: dict[str, Figure] = {
            "images/s": count / statistics.median(way.seconds[1:]),
            "CPU s/image": statistics.median(way.cpu_seconds[1:]) / count,
            "times the usual script": _ratio(ways[_USUAL].seconds, way.seconds),
            "times the torch engine": _ratio(ways[_TORCH].seconds, way.seconds),
            "the same in CPU time": _ratio(ways[_TORCH].cpu_seconds, way.cpu_seconds),
            "largest difference from the torch engine": float(np.abs(way.found[0] - ways[_TORCH].found[0]).max()),
        }
        if name in _COMMANDS:
            first = [_first_answer(model, paths[0], _COMMANDS[name]) for _ in range(rounds)]
            figures["first answer, s"] = min(seconds for seconds, _ in first)
            figures["first answer, CPU s"] = min(cpu for _, cpu in first)
        rows.append(Row(name, figures))
    return Report("predict", {"model": str(model), "images": count, "files": len(files), "rounds": rounds}, rows)


_COMMANDS = {_TORCH: "torch", "onnxruntime": "onnx", "OpenVINO": "openvino"}


def _ways(model: Reference) -> dict[str, _Way]:
    published = read_published(model)
    ensemble, exported = load_ensemble(published.reference), find_export(published)
    if exported is None:
        raise UsageError(f"{model} has no exported model; export it with chexvision export {model}")
    if len(ensemble.members) > 1:
        raise UsageError(f"{model} is an ensemble; name one of its members")
    before = load_predictor(model, "torch", "cpu")

    def engine(kind: Callable[[], OnnxEngine | OpenVinoEngine]) -> _Way:
        return _Way(_answers(Predictor(kind(), before.facts, before.points, before.check)))

    ways = {
        _USUAL: _Way(_usual_script(ensemble.members[0], before)),
        _TORCH: _Way(_answers(before)),
        "onnxruntime": engine(lambda: OnnxEngine(exported)),
        "OpenVINO": engine(lambda: OpenVinoEngine(exported)),
    }
    quantized = find_export(published, QUANTIZED)
    if quantized is not None:
        ways["onnxruntime, int8"] = engine(lambda: OnnxEngine(quantized))
    return ways


def _answers(predictor: Predictor) -> Callable[[Sequence[Path]], Floats]:
    return lambda paths: np.array([list(of.probabilities.values()) for of in predictor.predict(list(paths))])


def _usual_script(model: CheXVision, predictor: Predictor) -> Callable[[Sequence[Path]], Floats]:
    """What most scripts do: an image at a time with Pillow and torchvision, without histogram equalization."""
    model = model.cpu().eval()
    side, mean, std = model.preprocessing.image_size, model.preprocessing.mean, model.preprocessing.std
    transform = v2.Compose(
        [
            v2.Resize((side, side), antialias=True),
            v2.ToImage(),
            v2.ToDtype(torch.float32, scale=True),
            v2.Normalize([mean] * 3, [std] * 3),
        ]
    )

    def predict(paths: Sequence[Path]) -> Floats:
        rows = []
        for path in paths:
            with Image.open(path) as image:
                pixels = transform(image.convert("RGB"))
            with torch.no_grad():
                logits = model(pixels[None])
            rows.append(torch.cat(list(logits.values()), dim=1).sigmoid().numpy()[0])
        return predictor.points.calibrate(model.label_space.outputs, np.array(rows, np.float64))

    return predict


def _ratio(slower: Sequence[float], faster: Sequence[float]) -> float:
    return statistics.median(a / b for a, b in zip(slower[1:], faster[1:], strict=True))


def _first_answer(model: Reference, path: Path, engine: str) -> tuple[float, float]:
    """Seconds from the start of the command to its end, and those of CPU time."""
    command = [sys.executable, "-m", "chexvision", "predict", str(model), str(path), "--engine", engine, "--json"]
    before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    subprocess.run(command, check=True, capture_output=True)
    elapsed, after = time.perf_counter() - began, resource.getrusage(resource.RUSAGE_CHILDREN)
    return elapsed, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
