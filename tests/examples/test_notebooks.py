"""The notebooks run as they are, with other parameters, on small local models."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from huggingface_hub import HfApi

from chexvision.artifact.contents import METRICS
from chexvision.artifact.metrics_file import Conditions
from chexvision.images.preprocessing import Preprocessing
from chexvision.models.classifier import CheXVision
from chexvision.predict.fit_check import fit_input_check
from chexvision.predict.input_check import FILE as INPUT_CHECK
from chexvision.predict.input_check import thumbnails
from chexvision.synthetic.anatomy import sample_chest
from chexvision.synthetic.render import render_radiograph
from tests.fakes.hub import FakeHub

nbclient = pytest.importorskip("nbclient", reason="notebooks are run by nbclient")
nbformat = pytest.importorskip("nbformat", reason="notebooks are read by nbformat")

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
NOTEBOOKS = sorted(EXAMPLES.glob("*.ipynb"))
REPO = "chex/small"


def read(path: Path) -> Any:
    return nbformat.read(path, as_version=4)


def tagged(notebook: Any, tag: str) -> list[Any]:
    return [cell for cell in notebook.cells if tag in cell.metadata.get("tags", [])]


def executed(name: str, folder: Path, parameters: Mapping[str, object], monkeypatch: pytest.MonkeyPatch) -> str:
    """What a notebook prints in `folder`, run without its installation and with other parameters.

    Raises:
        CellExecutionError: a cell failed.
    """
    notebook = read(EXAMPLES / name)
    (cell,) = tagged(notebook, "parameters")
    names = re.findall(r"^(\w+) = ", cell.source, re.MULTILINE)
    assert set(parameters) <= set(names)
    cell.source += "".join(f"\n{key} = {value!r}" for key, value in parameters.items())
    for skipped in tagged(notebook, "install"):
        notebook.cells.remove(skipped)
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("IPYTHONDIR", str(folder / ".ipython"))
    nbclient.NotebookClient(notebook, timeout=300, resources={"metadata": {"path": str(folder)}}).execute()
    outputs = [output for cell in notebook.cells if cell.cell_type == "code" for output in cell.outputs]
    return "\n".join(
        output.text if output.output_type == "stream" else output.data.get("text/plain", "") for output in outputs
    )


@pytest.fixture
def published(fake_hub: FakeHub, tmp_path: Path) -> FakeHub:
    """A small network of random weights with an input check, on the loopback Hub as `REPO`."""
    torch.manual_seed(0)
    folder = tmp_path / "small"
    model = CheXVision(backbone="dsan_cnn", hidden_features=0, preprocessing=Preprocessing(image_size=64)).eval()
    model.save_pretrained(folder)
    rng = np.random.default_rng(3)
    rendered = [render_radiograph(rng, sample_chest(rng, False), (), "PA", 64)[0] for _ in range(60)]
    pixels = np.stack([model.preprocessing.apply(image) for image in rendered])
    with torch.inference_mode():
        features = model.features(model.normalize(torch.from_numpy(pixels))).numpy()
    check = fit_input_check(features, thumbnails(pixels), np.arange(60))
    assert check is not None
    check.write(folder / INPUT_CHECK)
    (folder / METRICS).write_text(Conditions(dataset="d", synthetic=True, split="test").model_dump_json())
    api = HfApi()
    api.create_repo(REPO)
    api.upload_folder(repo_id=REPO, folder_path=folder)
    return fake_hub


def test_the_prediction_notebook_runs(published: FakeHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    work = tmp_path / "work"
    work.mkdir()
    printed = executed("predict.ipynb", work, {"MODEL": REPO}, monkeypatch)
    assert REPO in printed and "trained on synthetic images" in printed
    assert "12-bit values" in printed and "inverted, as the file asks for" in printed
    found = dict(re.findall(r"^(as it is|inverted|noise): (.*)$", printed, re.MULTILINE))
    assert "exchanged" in found["inverted"] and found["noise"].startswith("(")
    as_dicom, as_png = re.findall(r"([\d.]+) as DICOM, ([\d.]+) as PNG", printed)[0]
    assert float(as_dicom) == pytest.approx(float(as_png), abs=1e-6)
    rows = (work / "results.csv").read_text().splitlines()
    assert len(rows) == 3 and len(list((work / "overlays").glob("*.png"))) == 1


def test_the_training_notebook_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    options = (
        "--set model.backbone=dsan_cnn --set data.image_size=32 --set training.precision=fp32 "
        "--set optim.batch_size=32 --set optim.micro_batch_size=32 "
        "--set 'training.phases=[{epochs: 1, lr: 1e-3, min_lr: 1e-5, warmup_epochs: 0.5, freeze: none}]'"
    )
    parameters = {"RECIPE": "scratch", "IMAGES": 120, "SIZE": 64, "OPTIONS": options}
    printed = executed("train_on_kaggle.ipynb", tmp_path, parameters, monkeypatch)
    assert re.search(r"^epoch 1: validation loss \d+\.\d{4}, macro AUROC", printed, re.MULTILINE)
    assert "test split, synthetic images" in printed
    assert (tmp_path / "model" / "model.safetensors").is_file()
    assert (tmp_path / "evaluation" / "report.html").is_file()


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.name)
def test_notebooks_hold_no_outputs_and_open_in_colab_and_kaggle(path: Path) -> None:
    notebook = read(path)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert not any(cell.outputs or cell.execution_count for cell in code)
    first = notebook.cells[0].source
    assert f"colab.research.google.com/github/YOU/chexvision/blob/main/examples/{path.name}" in first
    assert f"kernels/welcome?src=https://github.com/YOU/chexvision/blob/main/examples/{path.name}" in first
    assert len(tagged(notebook, "install")) == len(tagged(notebook, "parameters")) == 1
    assert not re.search(r"hf_\w{8}|KGAT_\w{4}", path.read_text())
