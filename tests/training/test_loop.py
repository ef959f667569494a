from __future__ import annotations

import hashlib
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from pydantic import BaseModel

from chexvision.config.recipe import PhaseConfig, Recipe
from chexvision.errors import ChexError
from chexvision.training.checkpoint import fingerprint, fingerprints
from chexvision.training.history import read_history
from chexvision.training.loop import Training
from chexvision.training.training_session import STATE_FILE
from tests.training.runs import figures, tiny_training, true_from, weights


def equal(first: dict[str, torch.Tensor], second: dict[str, torch.Tensor]) -> bool:
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


def test_a_seeded_run_repeats_exactly_and_another_seed_does_not(synthetic_shards: Path, tmp_path: Path) -> None:
    runs = {}
    for name, seed in (("first", 1), ("again", 1), ("other", 2)):
        training = tiny_training(synthetic_shards, tmp_path / name, f"training.seed={seed}")
        assert training.run()
        runs[name] = (figures(training.history), weights(tmp_path / name))
    assert runs["first"][0] == runs["again"][0]
    assert equal(runs["first"][1], runs["again"][1])
    assert not equal(runs["first"][1], runs["other"][1])


def test_a_run_stopped_at_any_step_resumes_to_identical_results(synthetic_shards: Path, tmp_path: Path) -> None:
    uninterrupted = tiny_training(synthetic_shards, tmp_path / "uninterrupted")
    assert uninterrupted.run()
    assert uninterrupted.steps > 3
    cuts = 0
    for _ in range(20):
        # In mid-epoch, again and again: after three steps of each session.
        session = tiny_training(synthetic_shards, tmp_path / "interrupted", should_stop=true_from(3))
        if session.run():
            break
        cuts += 1
    assert cuts >= 3
    assert figures(session.history) == figures(uninterrupted.history)
    assert equal(weights(tmp_path / "interrupted"), weights(tmp_path / "uninterrupted"))


@pytest.mark.parametrize("schedule", ["plateau", "step"])
def test_a_plateau_schedule_resumes_with_the_same_rates(
    synthetic_shards: Path, tmp_path: Path, schedule: str
) -> None:
    still = (
        "training.phases=[{epochs: 4, lr: 1e-30, min_lr: 0, warmup_epochs: 0, freeze: all, "
        f"schedule: {schedule}, decay_epochs: 1}}]"
    )
    uninterrupted = tiny_training(synthetic_shards, tmp_path / "uninterrupted", still)
    assert uninterrupted.run()
    for _ in range(20):
        steps = iter([False, False, True])
        session = tiny_training(
            synthetic_shards, tmp_path / "interrupted", still, should_stop=partial(next, steps, True)
        )
        if session.run():
            break
    rates = [(record.lr_first, record.lr_last) for record in uninterrupted.history]
    assert rates == [(record.lr_first, record.lr_last) for record in session.history]
    assert len(set(rates)) > 2
    assert equal(weights(tmp_path / "interrupted"), weights(tmp_path / "uninterrupted"))


def optional_keys(section: type[BaseModel]) -> dict[str, Any]:
    """What a recipe of the first release lacks, as pydantic's `exclude` takes it."""
    excluded: dict[str, Any] = {}
    for name, field in section.model_fields.items():
        if not field.is_required():
            excluded[name] = True
        elif name == "phases":
            excluded[name] = {"__all__": optional_keys(PhaseConfig)}
        elif isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            excluded[name] = optional_keys(field.annotation)
    return excluded


def test_state_of_a_recipe_without_newer_optional_keys_still_resumes(synthetic_shards: Path, tmp_path: Path) -> None:
    training = tiny_training(synthetic_shards, tmp_path)
    text = training.recipe.model_dump_json(exclude=optional_keys(Recipe))
    assert not any(key in text for key in ("schedule", "uncertain", "layer_decay", "monitor", "teacher"))
    then = hashlib.sha256(text.encode())
    for split in (training.train_split, training.validation_split):
        then.update("|".join(split.rows.filenames.tolist()).encode())
    assert fingerprint(training.recipe, training.train_split, training.validation_split) == then.hexdigest()


def test_a_split_table_may_be_in_another_folder_in_each_session(synthetic_shards: Path, tmp_path: Path) -> None:
    training = tiny_training(synthetic_shards, tmp_path)

    def of(split: str) -> str:
        data = training.recipe.data.model_copy(update={"split": split})
        return fingerprint(training.recipe.model_copy(update={"data": data}), training.train_split)

    assert of("/tmp/bundle-1/mine.csv") == of("/tmp/bundle-2/mine.csv") != of("/tmp/bundle-1/other.csv")


def test_state_with_a_fingerprint_of_the_split_tables_path_resumes(synthetic_shards: Path, tmp_path: Path) -> None:
    def with_table(*, stop: bool) -> Training:
        training = tiny_training(synthetic_shards, tmp_path, should_stop=true_from(1) if stop else lambda: False)
        data = training.recipe.data.model_copy(update={"split": "./tables/mine.csv"})
        training.recipe = training.recipe.model_copy(update={"data": data})
        training._fingerprints = fingerprints(training.recipe, training.train_split, training.validation_split)
        return training

    training = with_table(stop=True)
    text = training.recipe.model_dump_json(exclude_defaults=True)
    then = hashlib.sha256(text.encode())
    for split in (training.train_split, training.validation_split):
        then.update("|".join(split.rows.filenames.tolist()).encode())
    training._fingerprints = (then.hexdigest(), then.hexdigest())
    assert not training.run()
    assert with_table(stop=False).run()


def test_micro_batches_give_the_gradients_of_the_effective_batch(synthetic_shards: Path, tmp_path: Path) -> None:
    """Gradients of an effective batch, also of the shorter last one, do not depend on the micro-batch size.

    Norm layers see micro-batches, so they are frozen here; dropout is off.
    """
    frozen = "training.phases=[{epochs: 2, lr: 1e-2, min_lr: 1e-5, warmup_epochs: 0, freeze: all}]"
    results = []
    for micro in (24, 7):
        work = tmp_path / str(micro)
        training = tiny_training(synthetic_shards, work, frozen, f"optim.micro_batch_size={micro}", "model.dropout=0")
        assert len(training.train_split) % 24 != 0
        training.run()
        results.append((figures(training.history), weights(work)))
    for one, other in zip(results[0][0], results[1][0], strict=True):
        assert one["train_loss"] == pytest.approx(other["train_loss"], rel=1e-5)
        assert one["grad_norm"] == pytest.approx(other["grad_norm"], rel=1e-4)
    for name, value in results[0][1].items():
        assert torch.allclose(value, results[1][1][name], atol=2e-5), name


def test_a_frozen_phase_does_not_change_the_backbone(synthetic_shards: Path, tmp_path: Path) -> None:
    frozen = "training.phases=[{epochs: 1, lr: 1e-2, min_lr: 1e-5, warmup_epochs: 0, freeze: all}]"
    training = tiny_training(synthetic_shards, tmp_path, frozen)
    before = {name: value.clone() for name, value in training.model.state_dict().items()}
    training.run()
    changed = {name for name, value in training.model.state_dict().items() if not torch.equal(before[name], value)}
    assert changed == {name for name in before if "head" in name}


def test_training_stops_when_patience_runs_out(synthetic_shards: Path, tmp_path: Path) -> None:
    still = "training.phases=[{epochs: 9, lr: 1e-30, min_lr: 0, warmup_epochs: 0, freeze: all}]"
    training = tiny_training(synthetic_shards, tmp_path, still, "training.patience=2")
    assert training.run()
    assert [record.epoch for record in training.history] == [1, 2, 3]


def test_the_history_records_metrics_and_learning_rates(synthetic_shards: Path, tmp_path: Path) -> None:
    training = tiny_training(synthetic_shards, tmp_path)
    training.run()
    assert [(record.epoch, record.phase) for record in training.history] == [(1, 1), (2, 2), (3, 2)]
    second = training.history[1]
    assert second.lr_first < second.lr_last  # the schedule restarts with its warm-up
    assert training.history[2].lr_last == pytest.approx(1e-5)
    for record in training.history:
        defined = [value for value in record.auroc.values() if value is not None]
        assert record.macro_auroc == pytest.approx(sum(defined) / len(defined))
        assert record.train_images_per_second > 0


def test_a_nan_loss_ends_the_run_with_advice(synthetic_shards: Path, tmp_path: Path) -> None:
    wild = "training.phases=[{epochs: 2, lr: 1e30, min_lr: 0, warmup_epochs: 0, freeze: none}]"
    with pytest.raises(ChexError, match=r"training loss of epoch \d is (nan|inf): lower the learning rate"):
        tiny_training(synthetic_shards, tmp_path, wild).run()


def test_foreign_and_damaged_states_are_refused(synthetic_shards: Path, tmp_path: Path) -> None:
    tiny_training(synthetic_shards, tmp_path, should_stop=lambda: True).run()
    with pytest.raises(ChexError, match="another recipe"):
        tiny_training(synthetic_shards, tmp_path, "training.seed=9").run()
    (tmp_path / STATE_FILE).write_bytes(b"PK\x03\x04 cut")
    with pytest.raises(ChexError, match="cannot be resumed from"):
        tiny_training(synthetic_shards, tmp_path).run()


def test_code_in_a_state_file_is_not_executed(synthetic_shards: Path, tmp_path: Path) -> None:
    import pickle

    class Evil:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return exec, (f"open({str(tmp_path / 'ran')!r}, 'w').close()",)

    torch.save({"format": 1, "fingerprint": Evil()}, tmp_path / STATE_FILE, pickle_module=pickle)
    with pytest.raises(ChexError, match="cannot be resumed from"):
        tiny_training(synthetic_shards, tmp_path).run()
    assert not (tmp_path / "ran").exists()


def test_the_saved_state_contains_the_history(synthetic_shards: Path, tmp_path: Path) -> None:
    training = tiny_training(synthetic_shards, tmp_path)
    training.run()
    saved = torch.load(tmp_path / STATE_FILE, weights_only=True)
    assert read_history(saved["history"]) == training.history
    assert (saved["epoch"], saved["step"]) == (3, 0)
