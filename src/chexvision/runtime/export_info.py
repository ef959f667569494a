"""``onnx/model.json``: what one needs beside ``onnx/model.onnx`` to answer as the model does."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from chexvision.labels import LabelSpace
from chexvision.metrics.records import Record

FOLDER = "onnx"
INPUT = "image"  # of the graph
MODEL = f"{FOLDER}/model.onnx"
QUANTIZED = f"{FOLDER}/model_quantized.onnx"
INFO = f"{FOLDER}/model.json"


class ExportedFile(Record):
    """One ONNX file.

    Args:
        sha256: of it.
        bytes: its size.
        images: how many it was compared with torch on.
        largest_difference: of a probability, over these images, resized to the model's side by OpenCV.
        originals_difference: the same where the graph resized them.
        maps_difference: of a map's value, divided by the largest one of the image; null where the file gives no maps.
        checks_difference: of a value of the input check, divided by it where it is above 1; null without one.
        auroc_difference: macro AUROC of this file less that of torch; null where it was not measured.
        auroc_on: the images of `auroc_difference`, in words.
    """

    sha256: str
    bytes: int
    images: int
    largest_difference: float
    originals_difference: float | None = None
    maps_difference: float | None = None
    checks_difference: float | None = None
    auroc_difference: float | None = None
    auroc_on: str | None = None


class ThresholdResult(Record):
    """How a threshold did on the test split; null where too few cases."""

    sensitivity: float | None = None
    specificity: float | None = None
    precision: float | None = None
    positives: int | None = None
    images: int | None = None


class CheckLimit(Record):
    """A test of the input check; see `chexvision.predict.input_check.CheckTest`."""

    name: str
    limit: float
    message: str


class ExportInfo(Record):
    """About the exported files of one model or ensemble.

    The graph takes ``image`` uint8[B, H, W], originals of any size, and gives ``probabilities`` float32[B, K + 1]
    (calibrated), ``raw`` float32[B, K + 1] (not calibrated), ``checks`` float32[B, T] (of `checks`) and ``maps``
    float32[B, K + 1, h, w] (see `chexvision.predict.engine.HeatMaps`). An image that was resized to ``side`` before
    gives the same results. The images after equalization, float32[B, S, S] of whole numbers, are the value
    ``equalized`` of the graph, and ``equalized_2`` and so on those of an ensemble's further members; likewise pooled
    features ``features``, float32[B, C].

    Args:
        format: of this file.
        version: of chexvision.
        model: ``USER/REPO``, or the folder's name.
        run_id: of the run that trained it; null for an ensemble.
        label_space: names the outputs.
        side: of the square image that the graph resizes originals to first.
        image_size: of the network's input.
        map_method: "Grad-CAM", "LayerCAM", both, or null where the files give no maps.
        without_maps: why they give none; null where they do.
        synthetic: whether it was trained on synthetic images.
        data: what it was trained on, in words; null where unknown.
        calibration: in words; "none" for none.
        rule: of the thresholds, in words.
        thresholds: on calibrated probabilities, by output.
        test: by output, how its threshold did on the test split.
        test_set: what `test` was measured on, in words.
        checks: the input check's tests, in order; empty without one.
        sources: sha256 of each published file that the graph was made from; a file that changed makes it stale.
        files: by path below the model's folder.
    """

    format: Literal[1] = 1
    version: str
    model: str
    run_id: str | None = None
    label_space: LabelSpace
    side: Annotated[int, Field(ge=8, le=4096)]
    image_size: Annotated[int, Field(ge=8, le=1024)]
    map_method: str | None = None
    without_maps: str | None = None
    synthetic: bool
    data: str | None = None
    calibration: str
    rule: str
    thresholds: dict[str, float]
    test: dict[str, ThresholdResult] = Field(default_factory=dict)
    test_set: str | None = None
    checks: tuple[CheckLimit, ...] = ()
    sources: dict[str, str]
    files: dict[str, ExportedFile]
