from __future__ import annotations

import csv
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from chexvision.bench.cross_validation import divided, read_variants
from chexvision.bench.cross_validation_table import WayResult, lines_of, pooled
from chexvision.bench.fold_training import SELECTED, FoldResult, RunFacts
from chexvision.cli import main
from chexvision.errors import UsageError
from chexvision.images.radiograph import encode_grey
from chexvision.metrics.predictions import Predictions
from tests.training import runs

assert runs  # registers the tiny backbone

SETTINGS = """set: [model.backbone=tiny, data.clahe.enabled=false, optim.batch_size=16,
    "training.phases=[{epochs: 1, lr: 1e-3, min_lr: 0, warmup_epochs: 0, freeze: none}]"]"""


@pytest.fixture
def study(tmp_path: Path) -> list[str]:
    """The options of a cross-validation of 24 patients with two small images each."""
    images = tmp_path / "images"
    images.mkdir()
    rng = np.random.default_rng(0)
    rows = []
    for patient in range(1, 25):
        for number in range(2):
            name = f"{patient:08d}_{number:03d}.png"
            # Effusion is brighter, so that there is something to learn.
            grey = rng.integers(0, 100, (32, 32)) + 100 * (patient % 2)
            (images / name).write_bytes(encode_grey(grey.astype(np.uint8), "png"))
            rows.append([name, "Effusion" if patient % 2 else "No Finding", number, patient, 50, "F", "PA", 32, 32])
    with (tmp_path / "Data_Entry_2017.csv").open("w", newline="") as file:
        heads = "Image Index,Finding Labels,Follow-up #,Patient ID,Patient Age,Patient Gender,View Position"
        csv.writer(file).writerows([[*heads.split(","), "OriginalImage[Width", "Height]"], *rows])
    variants = tmp_path / "variants.yaml"
    variants.write_text(f"predecessor:\n  loop: predecessor\n  epochs: 1\n  {SETTINGS}\nours:\n  {SETTINGS}\n")
    words = ["--images", images, "--metadata", tmp_path / "Data_Entry_2017.csv", "--work", tmp_path / "work"]
    words += ["--variants", variants, "--folds", 2, "--seed", 0, "--size", 32]
    return [str(word) for word in words]


def bench(words: list[str], capsys: pytest.CaptureFixture[str]) -> tuple[dict[str, dict[str, float]], str]:
    """The figures by variant, and what is printed beside them."""
    with pytest.raises(SystemExit) as ended:
        main(["bench", "recipes", *words])
    printed = capsys.readouterr()
    assert ended.value.code == 0, printed.err
    return {row["way"]: row["figures"] for row in json.loads(printed.out)["rows"]}, printed.err


def test_a_recipe_is_compared_with_the_baseline_and_an_interrupted_benchmark_continues(
    study: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    figures, printed = bench(study, capsys)
    assert printed.count("of CPU time") == 4  # two variants, two folds
    assert set(figures) >= {"predecessor", "predecessor, last", "ours", "ours, last average", "ours, selected, flip"}
    ours, theirs = figures["ours"], figures["predecessor"]
    assert ours["difference"] == pytest.approx(ours["macro AUROC"] - theirs["macro AUROC"])
    assert ours["difference, low"] <= ours["difference"] <= ours["difference, high"]
    assert ours["CPU s"] > 0 and "difference" not in theirs
    stored = sorted((tmp_path / "work" / "results" / "ours").glob("*.npz"))
    with np.load(stored[0]) as first, np.load(stored[1]) as second:
        assert len({*first["filenames"].tolist(), *second["filenames"].tolist()}) == 48  # each image once
        assert not set(first["patients"].tolist()) & set(second["patients"].tolist())
    stored[0].unlink()
    again, printed = bench(study, capsys)
    assert printed.count("of CPU time") == 1
    assert again["ours"]["macro AUROC"] == ours["macro AUROC"]  # the same bits


def test_one_variant_is_run_with_a_value_changed_in_all(study: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    figures, printed = bench([*study, "--only", "predecessor", "--set", "model.dropout=0"], capsys)
    assert set(figures) == {"predecessor", "predecessor, selected, flip", "predecessor, last"}
    assert printed.count("of CPU time") == 2
    with pytest.raises(SystemExit) as ended:  # of other settings than the stored ones
        main(["bench", "recipes", *study])
    assert ended.value.code == 1


def test_an_unknown_variant_is_refused_in_one_line(study: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["bench", "recipes", *study, "--only", "theirs"])
    assert ended.value.code == 2
    assert capsys.readouterr().err == "error: --only theirs: known are predecessor, ours\n"


def test_the_variants_of_the_guide_are_recipes() -> None:
    variants = read_variants()
    assert variants["predecessor"].loop == "predecessor"
    for name, variant in variants.items():
        recipe = variant.resolved(64, 1)
        epochs = variant.epochs if variant.loop == "predecessor" else recipe.training.epochs
        assert epochs == (30 if name == "long" else 10)
        assert recipe.training.seed == 1
    changed = [name for name, variant in variants.items() if variant.like == "batch-32"]
    assert len({variants[name].resolved(64, 0).model_dump_json() for name in (*changed, "batch-32")}) == 1 + len(
        changed
    )


def test_results_of_other_settings_are_refused(
    study: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bench(study, capsys)
    path = tmp_path / "variants.yaml"
    path.write_text(path.read_text().replace("lr: 1e-3", "lr: 1e-4"))
    with pytest.raises(SystemExit) as ended:
        main(["bench", "recipes", *study])
    error = capsys.readouterr().err
    assert ended.value.code == 1
    assert "made with other settings" in error and error.count("\n") == 1


def test_splits_of_a_fold_share_no_patient_and_folds_have_equal_numbers_of_images() -> None:
    patients = np.repeat(np.arange(40), np.r_[np.full(20, 1), np.full(20, 6)])
    tested: list[int] = []
    for fold in range(4):
        splits = divided(patients, 4, fold, seed=5)
        assert set(splits) == set(range(40))
        images = {name: sum(splits[of] == name for of in patients.tolist()) for name in set(splits.values())}
        assert 34 <= images["test"] <= 36  # a quarter of 140
        assert 15 <= images["validation"] <= 21  # 15 % of the rest, up to a patient's 6 images
        tested += [patient for patient, name in splits.items() if name == "test"]
    assert sorted(tested) == list(range(40))
    assert divided(patients, 4, 0, seed=5) == divided(patients, 4, 0, seed=5) != divided(patients, 4, 0, seed=6)


def predictions(probabilities: list[float], targets: list[float], first_patient: int = 0) -> Predictions:
    count = len(targets)
    patients = np.arange(first_patient, first_patient + count)
    column = np.array(probabilities)[:, None]
    return Predictions(("Effusion",), patients.astype(str), patients, column, np.array(targets)[:, None])


def test_folds_are_pooled_by_rank() -> None:
    """A fold whose probabilities are all lower does not rank below the other."""
    folds = [predictions([0.01, 0.02], [0, 1]), predictions([0.8, 0.9], [0, 1], first_patient=2)]
    assert pooled(folds).probabilities[:, 0].tolist() == pytest.approx([1 / 3, 2 / 3, 1 / 3, 2 / 3])


def test_differences_are_paired_by_seed() -> None:
    fold = FoldResult(RunFacts(0.7, 1, "trained", 2.0, 3.0), {})
    base = WayResult("base", SELECTED, {0: np.array([0.6, 0.5, 0.7]), 1: np.array([0.7, 0.6, 0.8])}, (fold,))
    other = replace(base, variant="other", macros={1: np.array([0.75, 0.66, 0.86]), 2: np.array([0.1, 0.1, 0.1])})
    line = lines_of([base, other], "base")[1]
    assert line.difference is not None and line.difference.value == pytest.approx(0.05)
    assert line.difference.interval == pytest.approx((0.06, 0.06))  # both resamples of the shared seed
    assert line.seeds == 2 and line.spread is None


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("ours: {recipe: scratch, loop: adam}", "does not describe variants"),
        ("ours: {recipe: scratch, set: [training.epoch=3]}", "unknown key"),
        ("ours: [", "cannot be read"),
        ("ours: {like: theirs}", "ours is like 'theirs', which is not a variant above it"),
    ],
)
def test_a_variant_that_is_not_one_is_refused(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "variants.yaml"
    path.write_text(text)
    with pytest.raises(UsageError, match=message):
        read_variants(path)
