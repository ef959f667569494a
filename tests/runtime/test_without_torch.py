"""Prediction and explanation with an exported model, where torch and much else is not installed."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

from chexvision.images.radiograph import decode_grey, resize_area
from chexvision.labels import NIH
from tests.runtime.small_export import SIDE, expected, publish

MISSING = ("torch", "torchvision", "timm", "scipy", "sklearn", "pyarrow", "accelerate", "datasets", "pandas", "onnx")


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return publish(tmp_path_factory.mktemp("model"))


@pytest.fixture(scope="module")
def radiograph(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("images") / "chest.png"
    cv2.imwrite(str(path), np.random.default_rng(0).integers(0, 255, (90, 70), np.uint8))
    return path


def without(packages: tuple[str, ...], *words: object) -> subprocess.CompletedProcess[str]:
    """Run the command line in a process in which some packages cannot be imported."""
    code = (
        f"import sys; sys.modules.update(dict.fromkeys({packages!r}))\n"
        "from chexvision.cli import main\n"
        f"main({[str(word) for word in words]!r})"
    )
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)


def test_predict_and_explain_need_no_torch(model: Path, radiograph: Path, tmp_path: Path) -> None:
    missing = (*MISSING, "openvino")
    done = without(missing, "predict", model, radiograph, "--json", "--explain", tmp_path / "out")
    assert done.returncode == 0, done.stderr
    (found,) = json.loads(done.stdout)
    raw, maps = expected(resize_area(decode_grey(radiograph.read_bytes()), SIDE)[None])
    assert found["engine"] == "onnxruntime on cpu, fp32"
    assert list(found["probabilities"].values()) == pytest.approx(raw[0].tolist(), abs=1e-6)
    (explained,) = json.loads((tmp_path / "out" / "explain.json").read_text())["images"]
    largest = {name: float(of.max()) for name, of in zip(NIH.outputs, maps[0], strict=True)}
    best = sorted(NIH.findings, key=lambda name: -found["probabilities"][name])[:3]
    assert [one["finding"] for one in explained["overlays"]] == best
    assert [one["largest"] for one in explained["overlays"]] == pytest.approx([largest[name] for name in best])
    assert explained["scale"] == pytest.approx(max(largest[name] for name in best))
    done = without(missing, "explain", model, radiograph, "--out", tmp_path / "again")
    assert done.returncode == 0, done.stderr
    for one in (tmp_path / "out").iterdir():
        assert (tmp_path / "again" / one.name).read_bytes() == one.read_bytes()


def test_openvino_is_used_where_it_is_installed(model: Path, radiograph: Path) -> None:
    done = without(MISSING, "predict", model, radiograph, "--json")
    assert done.returncode == 0, done.stderr
    (found,) = json.loads(done.stdout)
    assert found["engine"] == "OpenVINO on cpu, fp32"
    raw, _ = expected(resize_area(decode_grey(radiograph.read_bytes()), SIDE)[None])
    assert list(found["probabilities"].values()) == pytest.approx(raw[0].tolist(), abs=1e-6)


@pytest.mark.parametrize(
    ("words", "missing", "message"),
    [
        (["predict", "EMPTY", "IMAGE"], MISSING, "has no exported model, and torch is not installed: install"),
        (["explain", "EMPTY", "IMAGE", "--out", "OUT"], MISSING, "has no exported model, and torch is not installed"),
        (["predict", "EMPTY", "IMAGE", "--engine", "onnx"], MISSING, "or export it with chexvision export"),
        (["predict", "MODEL", "IMAGE", "--tta", "flip"], MISSING, "only torch computes test-time augmentation"),
        (["predict", "MODEL", "IMAGE", "--engine", "torch"], MISSING, "torch is not installed; install it with"),
        (["predict", "MODEL", "IMAGE", "--engine", "openvino"], (*MISSING, "openvino"), "pip install openvino"),
        (["predict", "MODEL", "IMAGE"], (*MISSING, "openvino", "onnxruntime"), "install 'chexvision[predict]'"),
        (["predict", "MODEL", "IMAGE"], (*MISSING, "cv2"), "needs cv2; install it with: pip install 'chexvis"),
        (["predict", "MODEL", "IMAGE", "--out", "x.parquet"], MISSING, "needs pyarrow; install it with: pip"),
    ],
)  # fmt: skip
def test_what_is_missing_is_one_line(
    words: list[str], missing: tuple[str, ...], message: str, model: Path, radiograph: Path, tmp_path: Path
) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    (empty / "config.json").write_text("{}")
    named = {"MODEL": model, "EMPTY": empty, "IMAGE": radiograph, "OUT": tmp_path / "out"}
    done = without(missing, *(named.get(word, word) for word in words))
    assert done.returncode == 1
    assert message in done.stderr and done.stderr.count("\n") == 1, done.stderr


def test_a_gpu_is_asked_of_torch_alone(model: Path, radiograph: Path) -> None:
    done = without((), "predict", model, radiograph, "--engine", "onnx", "--device", "cuda")
    assert done.returncode == 2
    assert done.stderr == "error: the engine onnx does not compute on cuda; use the engine torch\n"


def test_loading_a_predictor_imports_no_torch() -> None:
    code = "import sys, chexvision.inference.load_predictor, chexvision.explain.image_maps; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not set(MISSING) & set(done.stdout.split())
