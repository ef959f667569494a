"""`CheXVision.predict`, `preprocess` and `transform`."""

from __future__ import annotations

import io
import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

import chexvision
from chexvision.data.decode import decoded_images
from chexvision.data.rows import read_rows
from chexvision.data.source import find_shards
from chexvision.errors import ChexError, UsageError
from chexvision.images.preprocessing import Preprocessing
from chexvision.labels import ABNORMAL, NIH
from chexvision.models.classifier import CheXVision
from chexvision.models.transform import RadiographTransform
from chexvision.recipes import load_recipe
from tests.predict.tiny_model import SIDE, THRESHOLD, publish


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return publish(tmp_path_factory.mktemp("published") / "tiny")


@pytest.fixture
def pixels() -> NDArray[np.uint8]:
    return np.random.default_rng(0).integers(0, 255, (50, 60), dtype=np.uint8)


@pytest.fixture
def path(tmp_path: Path, pixels: NDArray[np.uint8]) -> Path:
    cv2.imwrite(str(tmp_path / "chest.png"), pixels)
    return tmp_path / "chest.png"


def test_the_package_names_its_public_objects_without_importing_torch() -> None:
    code = (
        "import sys, chexvision; assert {'CheXVision', 'load_predictor'} <= {*dir(chexvision)}; "
        "sys.exit('torch' in sys.modules or 'numpy' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
    assert chexvision.CheXVision is CheXVision


def test_an_answer_is_calibrated_and_called_at_the_published_thresholds(folder: Path, path: Path) -> None:
    model = CheXVision.from_pretrained(folder)
    answer = model.predict(path)
    with torch.inference_mode():
        logits = torch.cat([*model(model.preprocess(path)).values()], dim=1)[0]
    calibrated = (logits.double() - 0.5).sigmoid().tolist()  # slope 1, intercept -0.5
    assert list(answer.probabilities) == [*NIH.findings, ABNORMAL]
    assert [*answer.probabilities.values()] == pytest.approx(calibrated, abs=1e-6)
    assert answer.image == "chest.png"
    assert set(answer.probabilities) - set(answer.calls) == {"Hernia"}  # which has no threshold
    assert answer.calls["Mass"] == (answer.probabilities["Mass"] >= THRESHOLD)
    assert answer.model.calibrated and answer.model.revision == "tiny-20260101-0000-abcd"


def test_files_bytes_arrays_tensors_and_pil_images_give_equal_answers(
    folder: Path, path: Path, pixels: NDArray[np.uint8]
) -> None:
    model = CheXVision.from_pretrained(folder)
    tensor = torch.from_numpy(pixels)
    three: list[Any] = [np.dstack([pixels] * 3), tensor.expand(3, -1, -1), tensor[None]]
    same = [path, str(path), path.read_bytes(), pixels, tensor, Image.fromarray(pixels), Image.open(path), *three]
    answers = model.predict(same)
    assert all(answer.probabilities == pytest.approx(answers[0].probabilities, abs=1e-6) for answer in answers)
    assert [answer.image for answer in answers] == [
        "chest.png", "chest.png", "2", "3", "4", "5", "chest.png", "7", "8", "9",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("image", "message"),
    [
        ("none.png", "none.png: No such file"),
        (b"text", "not a readable PNG, JPEG or DICOM file"),
        (np.zeros((2, 3, 4, 5), np.uint8), r"\[2, 3, 4, 5\]"),
        (torch.zeros(1, 3, 8, 8), r"\[1, 3, 8, 8\]"),
        (np.zeros((8, 8, 2), np.uint8), r"\[8, 8, 2\]"),
        (np.full((8, 8), 2.5), "2.5"),
        (np.full((8, 8), np.nan), "not a number|NaN|nan|finite"),
    ],
)
def test_what_is_not_an_image_is_refused_in_words(folder: Path, image: Any, message: str) -> None:
    model = CheXVision.from_pretrained(folder)
    for call in (model.predict, model.preprocess, model.transform):
        with pytest.raises(UsageError, match=message):
            call(image)
    with pytest.raises(UsageError, match=f"image 1 of the list: .*({message})"):
        model.predict([np.zeros((8, 8), np.uint8), image])


def test_a_model_that_was_not_published_answers_uncalibrated_and_says_so(path: Path) -> None:
    recipe = load_recipe("scratch")
    assert recipe.model.backbone  # a recipe, not a published model
    model = CheXVision("tiny", 0, preprocessing=Preprocessing(image_size=SIDE))
    answer = model.predict(path)
    with torch.inference_mode():
        logits = model.eval()(model.preprocess(path))
    assert answer.abnormal == pytest.approx(logits["binary_logits"].sigmoid().item(), abs=1e-6)
    assert not answer.calls and not answer.model.calibrated
    assert "not calibrated, no thresholds" in str(answer)


def test_predicting_leaves_a_model_in_training_mode(path: Path) -> None:
    model = CheXVision("tiny", 0, preprocessing=Preprocessing(image_size=SIDE), dropout=0.5).train()
    model.freeze("all")
    assert model.predict(path).probabilities == model.predict(path).probabilities
    assert model.training and model.neck.training and not model.backbone.training


def test_images_are_prepared_as_in_training(synthetic_shards: Path) -> None:
    source = find_shards(synthetic_shards)
    rows = read_rows(source.shards, None, NIH)["test"]
    model = CheXVision("tiny", 0, preprocessing=Preprocessing(shard_size=64, image_size=SIDE))
    trained = model.normalize(torch.from_numpy(np.array(decoded_images(source, rows, model.preprocessing)[:4])))
    table = pq.read_table(synthetic_shards / "data" / "test-00000-of-00001.parquet")
    by_name = {row["filename"]: row["image"]["bytes"] for row in table.to_pylist()}
    images = [by_name[name] for name in rows.filenames[:4]]
    assert torch.equal(model.preprocess(images), trained)
    assert torch.equal(model.transform(images[0]), trained[0])


class _Files(Dataset[Tensor]):
    def __init__(self, paths: list[Path], transform: RadiographTransform) -> None:
        self.paths = paths
        self.transform = transform

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> Tensor:
        made: Tensor = self.transform(self.paths[index])
        return made


def test_the_transform_works_in_the_workers_of_a_loader(folder: Path, path: Path) -> None:
    model = CheXVision.from_pretrained(folder)
    transform = pickle.loads(pickle.dumps(model.transform))  # noqa: S301 - its own
    loader = DataLoader(_Files([path] * 3, transform), batch_size=2, num_workers=1, multiprocessing_context="spawn")
    batches = list(loader)
    assert [batch.shape for batch in batches] == [(2, 3, SIDE, SIDE), (1, 3, SIDE, SIDE)]
    assert torch.equal(batches[0], model.preprocess([path, path]))
    assert "image_size=32" in repr(transform)


def test_features_are_what_the_heads_sit_on(folder: Path, path: Path) -> None:
    model = CheXVision.from_pretrained(folder)
    images = model.preprocess([path, path])
    features = model.features(images)
    assert features.shape == (2, 16)
    for name, logits in model(images).items():
        assert torch.equal(model.classify(features)[name], logits)
        assert torch.equal(model.head(model.backbone(images))[name], logits)


def test_an_answer_is_readable_as_text_and_in_a_notebook(tmp_path: Path, pixels: NDArray[np.uint8]) -> None:
    name = tmp_path / "<b>\x1b[2J.png"
    cv2.imwrite(str(tmp_path / "a.png"), pixels)
    (tmp_path / "a.png").rename(name)
    answer = CheXVision.from_pretrained(publish(tmp_path / "m", synthetic=True)).predict(name)
    lines = str(answer).splitlines()
    assert lines[0] == "<b>\\x1b[2J.png"
    assert lines[2].startswith("Abnormal")
    assert "trained on synthetic images" in str(answer)
    shown = answer._repr_html_()
    assert "&lt;b&gt;" in shown and "<b>" not in shown and "\x1b" not in shown
    assert shown.count("<tr>") == 16


def test_a_damaged_record_of_a_published_model_is_a_one_line_error(tmp_path: Path) -> None:
    for name in ("metrics.json", "run.json", "calibration.json", "thresholds.json", "input_check.npz"):
        folder = publish(tmp_path / name.split(".")[0])
        (folder / name).write_text("{")
        with pytest.raises(ChexError, match=name) as raised:
            CheXVision.from_pretrained(folder)
        assert "\n" not in str(raised.value)


def test_an_image_file_from_memory_is_read(folder: Path, pixels: NDArray[np.uint8]) -> None:
    file = io.BytesIO()
    Image.fromarray(pixels).convert("RGBA").save(file, "PNG")
    model = CheXVision.from_pretrained(folder)
    assert model.predict(file.getvalue()).abnormal == pytest.approx(model.predict(pixels).abnormal, abs=1e-6)
