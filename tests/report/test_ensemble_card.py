"""The card of an ensemble: its members, their mean, and the licenses of the weights that they started from."""

from __future__ import annotations

import pytest
from huggingface_hub import ModelCard, ModelCardData

from chexvision.artifact.ensemble_file import EnsembleInfo, Member
from chexvision.artifact.metrics_file import Conditions, Evaluation
from chexvision.evaluation.protocol import System, evaluate_systems
from chexvision.hub.reference import RepoRef
from chexvision.labels import NIH
from chexvision.provenance import Provenance
from chexvision.report.model_card import render_ensemble_card
from chexvision.shards.split_rule import SplitPart, SplitRecord
from tests.evaluation.conftest import METHOD, random_predictions

SHA = "0123456789abcdef0123456789abcdef01234567"
SPLIT = SplitRecord(rule="patient", parts={"test": SplitPart(images=300, patients=120, images_sha256="a" * 64)})


@pytest.fixture(scope="module")
def metrics() -> Evaluation:
    names = (*NIH.findings[:3], "Abnormal")
    systems = [System(name, random_predictions(300, 120, 1, names=names)) for name in ("run-0", "run-1", "mean")]
    conditions = Conditions(dataset=f"chex/nih@{SHA}", synthetic=False, split="test", division=SPLIT, image_size=224)
    return evaluate_systems(systems, conditions, None, METHOD)[0]


def _info(*licenses: str | None) -> EnsembleInfo:
    return EnsembleInfo(
        members=tuple(
            Member(
                reference=f"chex/model@{SHA}",
                run_id=f"run-{seed}",
                recipe="densenet",
                seed=seed,
                backbone="se_resnet34",
                image_size=224,
                license=license,
                weight=1 / len(licenses),
            )
            for seed, license in enumerate(licenses)
        ),
        weights="equal",
        provenance=Provenance(run_id="ensemble-1", source_revision="0", source_dirty=False),
        dataset=f"chex/nih@{SHA}",
        dataset_identity="b" * 64,
        split=SPLIT,
        created_at="2026-01-01T00:00:00+00:00",
    )


def _data(card: str) -> ModelCardData:
    data = ModelCard(card).data
    assert isinstance(data, ModelCardData)
    return data


def test_members_and_their_mean_are_listed(metrics: Evaluation) -> None:
    text = render_ensemble_card(metrics, _info(None, "mit"), ["roc.svg"], RepoRef("chex/ensemble"))
    rows = [line for line in text.splitlines() if line.startswith(("| 1 |", "| 2 |", "| **mean** |"))]
    assert f"\n2. chex/model@{SHA}, run run-1\n" in text
    value = metrics.metrics.macro_auroc
    assert value is not None and len(rows) == 3
    assert "| 2 | densenet | 1 | se_resnet34 | 224 px | 0.500 |" in rows[1]
    assert f"**{value:.3f} (" in rows[2]
    assert "chexvision predict chex/ensemble@ensemble-1 chest.png" in text
    assert "from_pretrained" not in text
    assert 'load_predictor("chex/ensemble@ensemble-1")' in text
    assert "by itself. Calibration and thresholds of the mean were chosen on validation." in text
    assert "License:" not in text
    data = _data(text)
    assert (data.license, data.model_name) == ("apache-2.0", "CheXVision ensemble of 2")


def test_licenses_of_initial_weights_are_named(metrics: Evaluation) -> None:
    text = render_ensemble_card(metrics, _info("cc-by-nc-4.0", "mit"))
    assert "**License:** the weights that a member started from are under cc-by-nc-4.0" in text
    assert _data(text).license == "cc-by-nc-4.0"
    both = _data(render_ensemble_card(metrics, _info("cc-by-nc-4.0", "dinov3-license")))
    assert both.license == "other"
    assert both.license_name == "cc-by-nc-4.0 and dinov3-license"
