"""An evaluation says when a model may have been trained on what it is measured on."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from chexvision.cli import main
from chexvision.provenance import Provenance
from chexvision.recipes import load_recipe
from chexvision.training.run import run_training
from tests.training.runs import TINY

FROZEN = "training.phases=[{epochs: 1, lr: 1e-3, min_lr: 0, warmup_epochs: 0, freeze_backbone: true}]"


def notes(model: Path, shards: Path, out: Path, *words: object) -> list[str]:
    command = ["evaluate", model, "--data", shards, "--out", out, "--resamples", 100, "--precision", "fp32", *words]
    with pytest.raises(SystemExit) as ended:
        main(list(map(str, command)))
    assert ended.value.code == 0
    found: list[str] = json.loads((out / "metrics.json").read_text())["notes"]
    return found


@pytest.fixture(scope="module")
def table(drawn_shards: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Another division of the same patients: every fifth is tested."""
    patients: set[int] = set()
    for shard in (drawn_shards / "data").glob("*.parquet"):
        patients |= set(pq.read_table(shard, columns=["patient_id"]).column("patient_id").to_pylist())
    splits = ("test", "train", "train", "validation", "train")
    rows = [f"{patient},{splits[i % len(splits)]}" for i, patient in enumerate(sorted(patients))]
    path = tmp_path_factory.mktemp("table") / "mine.csv"
    path.write_text("\n".join(["patient_id,split", *rows]) + "\n")
    return path


def trained(shards: Path, work: Path, *overrides: str) -> Path:
    recipe = load_recipe("scratch", overrides=[*TINY, FROZEN, *overrides])
    artifact = run_training(recipe, shards, work, Provenance.here("scratch")).artifact
    assert artifact is not None
    return artifact


def test_another_split_than_the_models_own_is_noted(drawn_shards: Path, table: Path, tmp_path: Path) -> None:
    own = trained(drawn_shards, tmp_path / "own")
    other = trained(drawn_shards, tmp_path / "other", f"data.split_table={table}")
    assert notes(own, drawn_shards, tmp_path / "1") == []
    assert notes(other, drawn_shards, tmp_path / "2", "--split-table", table) == []
    for model, words in ((own, ["--split-table", table]), (other, [])):
        (note,) = notes(model, drawn_shards, tmp_path / f"3{len(words)}", *words)
        assert "trained with another split" in note
        assert "may have seen these images" in note
