"""Estimated GPU hours of a recipe on Kaggle: from the network alone until a run of it was measured."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import HfApi

from chexvision.recipes import load_recipe
from chexvision_dispatch import run_records as records
from chexvision_dispatch.gpu_hours import estimated_hours, gpu_hours
from tests.dispatch.measured import FROZEN, SMALL, SMALL_HOURS, TARGET, measured_artifact, published_run
from tests.fakes.hub import FakeHub

OVERHEAD_HOURS = 0.25


def test_estimate_without_an_earlier_run_refuses_nothing() -> None:
    estimate = gpu_hours(load_recipe("densenet"), TARGET)
    assert estimate.hours is not None
    assert estimate.hours > 1
    assert (estimate.measured, estimate.basis) == (False, "an estimate: no published run of it was measured yet")


def training_hours(*overrides: str) -> float:
    """The estimate of ten epochs, without the overhead, and with next to no validation."""
    phase = "training.phases=[{epochs: 10, lr: 1, min_lr: 0, warmup_epochs: 0, freeze: none}]"
    usual = [phase, "data.image_size=224", "data.max_validation_images=1", "training.ema_decay=0"]
    return estimated_hours(load_recipe("chexnet", overrides=[*usual, *overrides])) - OVERHEAD_HOURS


def test_estimate_is_minutes_per_epoch_of_the_network() -> None:
    assert training_hours("data.max_train_images=75000") == pytest.approx(10 * 3 / 60, rel=0.01)
    swin = "model.backbone=timm/swin_base_patch4_window12_384.ms_in22k_ft_in1k"
    assert training_hours("data.max_train_images=75000", swin) == pytest.approx(10 * 9 / 60, rel=0.01)


def test_estimate_follows_images_pixels_and_frozen_layers() -> None:
    hours = training_hours()
    assert training_hours("data.mirror=true") == pytest.approx(2 * hours, rel=0.01)
    assert training_hours("data.train_fraction=0.1") == pytest.approx(0.1 * hours, rel=0.01)
    assert training_hours("data.image_size=448") == pytest.approx(4 * hours, rel=0.01)
    assert training_hours("data.image_size=448", "training.phases.0.image_size=224") == pytest.approx(hours, rel=0.01)
    assert training_hours("training.phases.0.freeze=all") == pytest.approx(hours / 3, rel=0.01)
    assert hours / 3 < training_hours("training.phases.0.freeze=partial") < hours


def test_an_unknown_network_is_estimated_as_the_slowest_known() -> None:
    unknown = training_hours("model.backbone=timm/some_network")
    assert unknown == training_hours("model.backbone=timm/swin_base_patch4_window12_384")


def test_earlier_run_of_the_same_network_is_used_as_a_measurement(tmp_path: Path) -> None:
    published_run(measured_artifact(tmp_path / "artifact"))
    measured = gpu_hours(load_recipe("densenet", overrides=SMALL), TARGET)
    assert measured.hours == pytest.approx(SMALL_HOURS + OVERHEAD_HOURS)
    assert (measured.measured, measured.basis) == (True, "measured in densenet-20260101-1432-0001")


def test_measurement_is_scaled_by_images_and_epochs(tmp_path: Path) -> None:
    published_run(measured_artifact(tmp_path / "artifact"))
    other = load_recipe("densenet", overrides=["data.max_train_images=2000", SMALL[1], "training.phases.1.epochs=10"])
    expected = (FROZEN * (2000 / 10 + 50) + 10 * (2000 / 5 + 50)) / 3600
    assert gpu_hours(other, TARGET).hours == pytest.approx(expected + OVERHEAD_HOURS)


def test_files_of_a_published_run_are_read_at_its_commit(tmp_path: Path, fake_hub: FakeHub) -> None:
    api = HfApi()
    api.create_repo("chex/model")
    sha = api.upload_folder(repo_id="chex/model", folder_path=measured_artifact(tmp_path / "artifact")).oid
    api.upload_file(path_or_fileobj=b"[]", path_in_repo="history.json", repo_id="chex/model")
    published_run(f"chex/model@{sha}")
    assert gpu_hours(load_recipe("densenet", overrides=SMALL), TARGET).measured
    fake_hub.close()
    assert gpu_hours(load_recipe("densenet", overrides=SMALL), TARGET).measured  # from the Hub client's cache


def test_newest_matching_run_is_used(tmp_path: Path) -> None:
    published_run(measured_artifact(tmp_path / "old"), 1)
    published_run(measured_artifact(tmp_path / "new"), 2)
    published_run(measured_artifact(tmp_path / "another", **{"data.image_size": 128}), 3)
    assert gpu_hours(load_recipe("densenet"), TARGET).basis == "measured in densenet-20260101-1432-0002"


@pytest.mark.parametrize(
    ("of_artifact", "of_record"),
    [
        ({"data.image_size": 128}, {}),
        ({"model.hidden_features": 64}, {}),
        ({"epochs": 1}, {}),  # no epoch with an unfrozen backbone was measured
        ({"epochs": 0}, {}),
        ({}, {"target": "local"}),
        ({}, {"options": {"accelerator": "AnotherGpu"}}),
        ({}, {"kernel": "shards"}),
        ({}, {"published": None}),
        ({}, {"published": "chex/unreachable@" + "0" * 40}),
        ({}, {"published": "/nowhere"}),
    ],
)
def test_different_or_unreadable_run_is_not_used_as_a_measurement(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, of_artifact: dict[str, Any], of_record: dict[str, Any]
) -> None:
    monkeypatch.setattr("time.sleep", lambda seconds: None)  # the Hub client's own backoff
    published_run(**{"published": measured_artifact(tmp_path / "artifact", **of_artifact)} | of_record)
    assert not gpu_hours(load_recipe("densenet"), TARGET).measured


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("history.json", "["),
        ("history.json", '[{"epoch": 1, "phase": 1, "train_images_per_second": 0, "validation_seconds": 1}]'),
        ("history.json", '[{"epoch": 1, "phase": 1, "train_images_per_second": NaN, "validation_seconds": 1}]'),
        ("metrics.json", '{"splits": {}}'),
        ("run.json", "{}"),
    ],
)
def test_damaged_files_are_not_used_as_a_measurement(tmp_path: Path, name: str, content: str) -> None:
    (measured_artifact(tmp_path / "artifact") / name).write_text(content)
    published_run(tmp_path / "artifact")
    assert not gpu_hours(load_recipe("densenet"), TARGET).measured


def test_damaged_record_does_not_stop_a_dispatch(tmp_path: Path) -> None:
    published_run(measured_artifact(tmp_path / "artifact"))
    (records.runs_dir() / "broken.json").write_text("{")
    assert gpu_hours(load_recipe("densenet"), TARGET).measured


def test_the_hours_of_a_mixture_are_those_of_all_its_data_sets() -> None:
    alone = estimated_hours(load_recipe("densenet"))
    mixed = estimated_hours(load_recipe("densenet", overrides=["data.datasets=[{name: u/a}, {name: u/b}]"]))
    assert mixed - OVERHEAD_HOURS == pytest.approx(2 * (alone - OVERHEAD_HOURS))
