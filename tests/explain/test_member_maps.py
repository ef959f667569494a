"""Maps of an ensemble: the weighted mean of its members' maps, each of the image as that member takes it."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from chexvision.artifact.ensemble_file import EnsembleInfo, Member, member_folder
from chexvision.artifact.load import Ensemble, load_ensemble
from chexvision.cli import main
from chexvision.explain.audit import explain_subjects
from chexvision.explain.gradcam import enlarge, explain_batch
from chexvision.explain.member_maps import explain_members
from chexvision.images.preprocessing import Preprocessing
from chexvision.images.radiograph import resize_area
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
    seen: list[torch.Tensor] = []

    def choose(probabilities: torch.Tensor) -> torch.Tensor:
        seen.append(probabilities)
        return torch.tensor([[2, 14], [3, 0]])

    found = explain_members(Ensemble(members, WEIGHTS), pixels, choose)
    alone = [
        explain_batch(member, member.normalize(torch.from_numpy(of)), lambda _: torch.tensor([[2, 14], [3, 0]]))
        for member, of in zip(members, pixels, strict=True)
    ]
    mean = WEIGHTS[0] * alone[0].probabilities + WEIGHTS[1] * alone[1].probabilities
    torch.testing.assert_close(seen[0], mean)
    torch.testing.assert_close(found.probabilities, mean)
    expected = sum(w * enlarge(of.maps, 30, 40)[1, 0] for w, of in zip(WEIGHTS, alone, strict=True))
    np.testing.assert_allclose(found.heat(1, 0, 30, 40), torch.as_tensor(expected).numpy(), atol=1e-6)
    assert float(torch.as_tensor(expected).abs().max()) > 0


def test_a_single_model_is_explained_as_before(members: tuple[CheXVision, CheXVision]) -> None:
    pixels = _pixels(1)[:1]
    found = explain_members(Ensemble(members[:1]), pixels, lambda _: torch.tensor([[2]]))
    alone = explain_batch(
        members[0], members[0].normalize(torch.from_numpy(pixels[0])), lambda _: torch.tensor([[2]])
    )
    assert torch.equal(found.probabilities, alone.probabilities)
    assert found.method == alone.method
    np.testing.assert_array_equal(found.heat(0, 0, 20, 20), enlarge(alone.maps, 20, 20)[0, 0])


def test_an_ensemble_with_one_deciding_member_is_audited_like_it(members: tuple[CheXVision, CheXVision]) -> None:
    subjects = synthetic_subjects(6, seed=9)
    double = [
        type(of)(of.name, of.patient, (of.pixels[0], resize_area(of.pixels[0], 48)), of.boxes) for of in subjects
    ]
    alone, method = explain_subjects(Ensemble(members[:1]), subjects)
    both, _ = explain_subjects(Ensemble(members, (1.0, 0.0)), double)
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
    explained = json.loads((tmp_path / "out" / "explain.json").read_text())
    best = sorted(predicted["findings"].values(), reverse=True)[:3]
    assert [one["probability"] for one in explained] == pytest.approx(best, abs=1e-6)
    assert load_ensemble(folder).weights == WEIGHTS
    with pytest.raises(SystemExit) as ended:
        main(["explain", str(folder), str(image), "--out", str(tmp_path / "layers"), "--layers", "2"])
    assert ended.value.code == 2
    assert "is an ensemble, and --layers shows one network; name one of its members" in capsys.readouterr().err
