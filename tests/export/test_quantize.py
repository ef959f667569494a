"""What int8 loses, for a model of several data sets measured on the shards of one."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from chexvision.data.rows import Rows
from chexvision.errors import ChexError, UsageError
from chexvision.export import quantize
from chexvision.export.quantize import Calibrating, calibrating_on
from chexvision.labels import LabelSpace
from chexvision.runtime.export_info import ExportedFile
from chexvision.synthetic.synthesize import synthesize

MODEL = LabelSpace(findings=("Edema", "Mass", "Fracture", "Lung Lesion"))
SHARDS = LabelSpace(findings=("Fracture", "Mass"))


def test_the_loss_is_that_of_the_findings_that_the_shards_label(monkeypatch: pytest.MonkeyPatch) -> None:
    count = 40
    numbers = np.arange(count)
    findings = np.stack([numbers % 2, numbers // 2 % 2], axis=1).astype(np.float32)
    rows = Rows(numbers.astype(str), findings, numbers, np.zeros(count, np.int32), numbers, SHARDS)
    raw = {"model.onnx": np.full((count, len(MODEL.outputs)), 0.5)}
    for name in SHARDS.findings:
        raw["model.onnx"][:, MODEL.outputs.index(name)] = findings[:, SHARDS.findings.index(name)]
    raw["worse.onnx"] = raw["model.onnx"].copy()
    raw["worse.onnx"][:, MODEL.outputs.index("Fracture")] = 0.5

    def computed(path: Path, images: NDArray[np.uint8]) -> NDArray[np.float64]:
        return raw[path.name][: len(images)]

    monkeypatch.setattr(quantize, "_raw", computed)
    images = np.zeros((count, 8, 8), np.uint8)
    calibrating = Calibrating(images, images, rows, "40 images", MODEL)
    file = ExportedFile(sha256="0" * 64, bytes=1, images=1, largest_difference=0.0)
    same = calibrating.accepted(Path("model.onnx"), Path("model.onnx"), file)
    assert same.auroc_difference == 0
    with pytest.raises(ChexError, match=r"loses 0\.2500 of macro AUROC \(0\.7500 instead of 1\.0000"):
        calibrating.accepted(Path("model.onnx"), Path("worse.onnx"), file)


def test_shards_without_a_finding_of_the_model_are_refused(tmp_path: Path) -> None:
    shards = tmp_path / "shards"
    synthesize(shards, images=9, seed=1, size=32, encoding="png", shard_bytes=2**20, workers=1, overwrite=False)
    with pytest.raises(UsageError, match=r"predicts Fracture, but the labels of .*shards are Atelectasis, .*share"):
        calibrating_on(tmp_path / "model", shards, 32, LabelSpace(findings=("Fracture",)))
