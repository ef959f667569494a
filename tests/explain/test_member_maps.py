"""Maps of an ensemble: the weighted mean of its members' maps, each of the image as that member takes it."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
import torch.nn.functional as F

from chexvision.artifact.ensemble_file import EnsembleInfo, Member, member_folder
from chexvision.artifact.load import Ensemble, load_ensemble
from chexvision.cli import main
from chexvision.explain.audit import explain_subjects
from chexvision.images.preprocessing import Preprocessing
from chexvision.inference.gradcam import explain_batch
from chexvision.inference.member_maps import explain_members
from chexvision.inference.torch_engine import TorchEngine
from chexvision.models.classifier import CheXVision
from chexvision.provenance import Provenance
from chexvision.shards.split_rule import SplitRecord
from tests.explain.trained import SIDE, synthetic_subjects, untrained_model

WEIGHTS = (0.75, 0.25)


@pytest.fixture(scope="module")
def members(trained: CheXVision) -> tuple[CheXVision, CheXVision]:
    """A trained model, and an untrained one of another input size."""
    smaller = untrained_model()
    smaller.preprocessing = Preprocessing(image_size=48, clahe=smaller.preprocessing.clahe)
    return trained, smaller


def _pixels(count: int) -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    return [rng.integers(0, 255, (count, side, side), np.uint8) for side in (SIDE, 48)]


def test_maps_and_probabilities_are_weighted_means(members: tuple[CheXVision, CheXVision]) -> None:
    pixels = _pixels(2)
    outputs = np.array([[2, 14], [3, 0]], np.int64)
    computed, maps = explain_members(Ensemble(members, WEIGHTS), pixels, outputs)
    alone = [
        explain_batch(member, member.normalize(torch.from_numpy(of)), torch.from_numpy(outputs))
        for member, of in zip(members, pixels, strict=True)
    ]
    mean = WEIGHTS[0] * alone[0].probabilities + WEIGHTS[1] * alone[1].probabilities
    np.testing.assert_allclose(computed.probabilities, mean.numpy(), atol=1e-6)
    sizes = [part.values.shape[2:] for part in alone]
    assert sizes == [(8, 8), (12, 12)] and maps.values.shape == (2, 2, 12, 12)
    enlarged = F.interpolate(alone[0].values, size=(12, 12), mode="bilinear", align_corners=False)
    expected = WEIGHTS[0] * enlarged + WEIGHTS[1] * alone[1].values
    np.testing.assert_allclose(maps.values, expected.numpy(), atol=1e-7)
    assert maps.values.max() > 0


def test_a_single_model_is_explained_as_before(members: tuple[CheXVision, CheXVision]) -> None:
    pixels = _pixels(1)[:1]
    computed, maps = explain_members(Ensemble(members[:1]), pixels, np.array([[2]], np.int64))
    alone = explain_batch(members[0], members[0].normalize(torch.from_numpy(pixels[0])), torch.tensor([[2]]))
    np.testing.assert_array_equal(computed.probabilities, alone.probabilities.double())
    np.testing.assert_array_equal(maps.values, alone.values)
    assert maps.method == alone.method


def test_the_torch_engine_explains_images_as_each_member_takes_them(members: tuple[CheXVision, CheXVision]) -> None:
    ensemble = Ensemble(members, WEIGHTS)
    engine = TorchEngine(ensemble, device="cpu")
    original = np.random.default_rng(1).integers(0, 255, (90, 70), np.uint8)
    outputs = np.array([[2, 14]], np.int64)
    maps = engine.explain([engine.prepare(original)], outputs)
    pixels = [member.preprocessing.apply(original)[None] for member in members]
    np.testing.assert_array_equal(maps.values, explain_members(ensemble, pixels, outputs)[1].values)
    np.testing.assert_array_equal(maps.outputs, outputs)


def test_an_ensemble_with_one_deciding_member_is_audited_like_it(members: tuple[CheXVision, CheXVision]) -> None:
    subjects = synthetic_subjects(6, seed=9)
    double = [replace(of, pixels=of.pixels * 2) for of in subjects]
    alone, method = explain_subjects(Ensemble(members[:1]), subjects)
    both, _ = explain_subjects(Ensemble((members[0], untrained_model()), (1.0, 0.0)), double)
    assert [case.measured for case in both] == [case.measured for case in alone]
    assert method in ("Grad-CAM", "LayerCAM")


def test_explain_and_predict_take_an_ensemble(
    members: tuple[CheXVision, CheXVision], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "ensemble"
    for number, member in enumerate(members, 1):
        member.save_pretrained(folder / member_folder(number))
    named = [
        Member(reference="a", run_id=None, recipe=None, seed=None, backbone="small", image_size=SIDE, weight=weight)
        for weight in WEIGHTS
    ]
    info = EnsembleInfo(
        members=tuple(named),
        weights="equal",
        provenance=Provenance(run_id="e", source_revision="0", source_dirty=False),
        dataset="d",
        dataset_identity="0",
        split=SplitRecord(rule="patient"),
        created_at="",
    )
    (folder / "ensemble.json").write_text(info.model_dump_json())
    image = tmp_path / "chest.png"
    cv2.imwrite(str(image), np.random.default_rng(0).integers(0, 255, (80, 60), dtype=np.uint8))
    with pytest.raises(SystemExit) as ended:
        main(["predict", str(folder), str(image), "--json", "--explain", str(tmp_path / "out")])
    assert ended.value.code == 0
    said = capsys.readouterr().out
    (predicted,) = json.loads(said)
    (explained,) = json.loads((tmp_path / "out" / "explain.json").read_text())["images"]
    best = sorted([*predicted["probabilities"].values()][:-1], reverse=True)[:3]
    assert [one["probability"] for one in explained["overlays"]] == pytest.approx(best, abs=1e-6)
    assert load_ensemble(folder).weights == WEIGHTS
    with pytest.raises(SystemExit) as ended:
        main(["explain", str(folder), str(image), "--out", str(tmp_path / "layers"), "--layers", "2"])
    assert ended.value.code == 2
    assert "is an ensemble, and --layers shows one network; name one of its members" in capsys.readouterr().err
