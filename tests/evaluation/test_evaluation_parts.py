"""Which predictions each part of an evaluation uses: the model, calibrated or raw, the number of views."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from accelerate import Accelerator

from chexvision.artifact.load import load_model
from chexvision.cli import main
from chexvision.data.dataset import open_split, splits_of
from chexvision.data.source import find_shards
from chexvision.inference.predict_split import predict_split
from chexvision.inference.predictions_file import read_predictions
from chexvision.inference.tta import flipped
from chexvision.models.network_engine import unchanged
from chexvision.predict.operating_files import load_operating_points
from chexvision.recipes import load_recipe
from chexvision.synthetic.synthesize import synthesize


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Enough patients in train for figures of normal/abnormal in both sexes."""
    out = tmp_path_factory.mktemp("synthetic") / "shards"
    synthesize(out, images=300, seed=3, size=32, encoding="png", shard_bytes=10**8, workers=2, overwrite=False)
    return out


@pytest.fixture(scope="module")
def evaluated(shards: Path, tiny_model: Callable[[int], Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("evaluation") / "out"
    words = ["evaluate", tiny_model(0), tiny_model(1), "--data", shards, "--out", out, "--split", "train"]
    with pytest.raises(SystemExit) as ended:
        main([str(word) for word in [*words, "--resamples", 100, "--precision", "fp32"]])
    assert ended.value.code == 0
    return out


def test_a_difference_is_second_minus_first(evaluated: Path) -> None:
    found = json.loads((evaluated / "metrics.json").read_text())
    first, *others = found["systems"]
    assert [one["second"] for one in found["comparisons"]] == [other["name"] for other in others]
    for comparison, other in zip(found["comparisons"], others, strict=True):
        assert comparison["first"] == first["name"]
        before, after = (one["metrics"]["binary"]["estimates"]["auroc"]["value"] for one in (first, other))
        difference = after - before
        assert difference != 0
        assert comparison["outputs"]["Abnormal"]["difference"]["value"] == pytest.approx(difference, abs=1e-9)


def test_subgroup_decisions_use_calibrated_probabilities(evaluated: Path, shards: Path) -> None:
    found = json.loads((evaluated / "metrics.json").read_text())
    predictions, points = read_predictions(evaluated / "predictions.parquet"), load_operating_points(evaluated)
    assert points.thresholds is not None
    i = predictions.column("Abnormal")
    threshold = points.thresholds.known["Abnormal"]
    calls = points.calibrate(predictions.names, predictions.probabilities)[:, i] >= threshold
    assert (calls != (predictions.probabilities[:, i] >= threshold)).any()
    rows = pq.read_table(shards / "data" / "train-00000-of-00001.parquet", columns=["filename", "sex"])
    sex = dict(zip(rows.column("filename").to_pylist(), rows.column("sex").to_pylist(), strict=True))
    of_image = np.array([sex[name] for name in predictions.filenames.tolist()])
    (attribute,) = (one for one in found["subgroups"] if one["attribute"] == "sex")
    assert len(attribute["groups"]) == 2
    for group in attribute["groups"]:
        assert group["binary_too_few"] is None
        positive = (of_image == group["group"]) & (predictions.targets[:, i] == 1)
        assert group["recall"]["value"] == pytest.approx(float(calls[positive].mean()))


def test_probabilities_are_averaged_over_views(synthetic_shards: Path, tiny_model: Callable[[int], Path]) -> None:
    config = load_recipe("scratch", overrides=["data.image_size=32"]).data
    source = find_shards(synthetic_shards)
    split = open_split(source, splits_of(source, config, 0), "validation", config, quiet=True)
    model, accelerator = load_model(tiny_model(0)), Accelerator(cpu=True)
    one, other, both = (
        predict_split(model, split, accelerator, 8, views=views)[0]
        for views in ((unchanged,), (flipped,), (unchanged, flipped))
    )
    assert np.abs(one - other).max() > 1e-4
    np.testing.assert_allclose(both, (one + other) / 2, atol=1e-6)
