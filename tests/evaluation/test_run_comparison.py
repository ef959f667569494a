"""Published runs side by side: what differs, whether it is comparable, and the paired test."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pytest

from chexvision.artifact.contents import HISTORY, METRICS, PROBABILITIES, RUN
from chexvision.artifact.published_run import PublishedRun, read_published
from chexvision.console import LiteralConsole
from chexvision.data.source import find_shards
from chexvision.evaluation.many_runs.run_comparison import RunComparison, compare_runs
from chexvision.inference.stored_predictions import stored_predictions
from chexvision.metrics.compare import compare
from chexvision.metrics.records import IntervalMethod
from chexvision.report.many_runs.comparison_text import print_run_comparison
from chexvision.synthetic.synthesize import synthesize
from tests.published_runs import change, epoch_entry, write_run

METHOD = IntervalMethod(resamples=100, seed=0)


def runs_of(*folders: Path) -> list[PublishedRun]:
    return [read_published(path.name, path) for path in folders]


def printed(found: RunComparison) -> str:
    file = io.StringIO()
    print_run_comparison(LiteralConsole(file=file, width=100), found)
    return file.getvalue()


def test_only_the_keys_of_recipes_that_differ_are_listed(tmp_path: Path) -> None:
    one, two = write_run(tmp_path / "one"), write_run(tmp_path / "two")
    change(two / RUN, lambda of: of["recipe"]["optim"].update(weight_decay=0.125))
    change(two / RUN, lambda of: of["recipe"]["training"]["phases"].append(of["recipe"]["training"]["phases"][0]))
    found = compare_runs(runs_of(one, two), paired=False)
    first = json.loads((one / RUN).read_text())["recipe"]
    assert found.recipe["optim.weight_decay"] == (first["optim"]["weight_decay"], 0.125)
    added = {key for key in found.recipe if key.startswith("training.phases.")}
    assert added and all(found.recipe[key][0] is None for key in added)
    assert set(found.recipe) == {"optim.weight_decay", *added}
    assert compare_runs(runs_of(one, one), paired=False).recipe == {}
    (one / RUN).unlink()
    assert compare_runs(runs_of(one, two), paired=False).recipe == {}  # nothing to compare with


def test_runs_of_the_same_images_are_tested_by_image(tmp_path: Path) -> None:
    shards = tmp_path / "shards"
    synthesize(shards, images=400, seed=3, size=32, encoding="png", shard_bytes=10**8, workers=2, overwrite=False)
    source = find_shards(shards)
    good = write_run(tmp_path / "good", noise=0.15, source=source)
    poor = write_run(tmp_path / "poor", noise=0.9, seed=1, source=source)
    found = compare_runs(runs_of(good, poor), paired=True, method=METHOD)
    assert found.valid and found.untested == {}
    (comparison,) = found.comparisons
    stored = stored_predictions(["good", "poor"], [good, poor]).predictions
    assert comparison == compare(stored[0]["test"], stored[1]["test"], METHOD, ("good", "poor"))
    of = comparison.outputs["Abnormal"]
    assert of.difference.value is not None and of.difference.interval is not None and of.difference.interval[1] < 0
    assert of.second == pytest.approx(found.runs[1].binary_auroc.value, abs=1e-6)
    text = printed(found)
    assert "B − A" in text and "Valid: all were measured on the same images." in text
    (row,) = [line for line in text.splitlines() if line.startswith("normal/abnormal ")]
    assert f"{of.difference.value:+.4f}" in row


def test_why_there_is_no_paired_test_is_said(synthetic_shards: Path, tmp_path: Path) -> None:
    source = find_shards(synthetic_shards)
    one, two = (write_run(tmp_path / name, source=source) for name in ("one", "two"))
    (two / PROBABILITIES).unlink()
    found = compare_runs(runs_of(one, two), paired=True, method=METHOD)
    assert found.valid and "without probabilities.npz" in found.untested["two"]
    assert "no paired test of two" in printed(found)


def test_runs_on_mixtures_are_paired_by_another_command(tmp_path: Path) -> None:
    one, two = (write_run(tmp_path / name) for name in ("one", "two"))
    for run in (one, two):
        change(run / RUN, lambda of: of.update(datasets=[_trained_on(of)]))
    found = compare_runs(runs_of(one, two), paired=True, method=METHOD)
    assert found.untested["two"].endswith(f"chexvision evaluate {one} {two} --data DATASET")


def _trained_on(run: dict[str, Any]) -> dict[str, Any]:
    kept = {key: run[key] for key in ("dataset", "dataset_identity", "split")}
    counts = {"weight": 1.0, "train_images": 1, "images_per_epoch": 1}
    return {"name": "a", "synthetic": False, "findings": ["Mass"], **kept, **counts}


def test_runs_of_other_images_findings_or_labels_are_not_comparable(tmp_path: Path) -> None:
    one, images, finding, labels, synthetic = (
        write_run(tmp_path / name) for name in ("one", "images", "finding", "labels", "synthetic")
    )
    change(images / METRICS, lambda of: of["systems"][0]["metrics"].update(images_sha256="f" * 64, images=1234))
    change(finding / METRICS, lambda of: of["systems"][0]["metrics"]["findings"].pop("Edema"))
    change(labels / METRICS, lambda of: of["systems"][0]["metrics"]["macro"].update(findings=13))
    change(synthetic / METRICS, lambda of: of.update(synthetic=True, dataset_identity="b" * 64))
    found = compare_runs(runs_of(one, images, finding, labels, synthetic), paired=True)
    assert not found.valid and found.comparisons == ()
    reasons = [reason.split(" was ")[0].split(" and ")[0] for reason in found.why_not]
    assert reasons[:2] == ["images", "finding"] and len(found.why_not) == 4
    assert "1,234 test images" in found.untested["images"]
    assert "same findings: Edema" in found.untested["finding"]
    assert "over 13 findings, that of one over 14" in found.untested["labels"]
    assert "other synthetic images" in found.untested["synthetic"]
    assert printed(found).count("not comparable: ") == 4


def test_a_run_without_metrics_is_shown_with_what_there_is(tmp_path: Path) -> None:
    one, two = write_run(tmp_path / "one"), write_run(tmp_path / "two", curve=(0.5, 0.9))
    (two / METRICS).write_text("{")
    found = compare_runs(runs_of(one, two), paired=True)
    assert not found.valid and found.why_not == ("there are no metrics of two",)
    assert found.runs[1].problems[0].startswith("metrics.json") and found.runs[1].curve == (0.5, 0.9)
    text = printed(found)
    assert "note: metrics.json" in text and "0.900 in epoch 2" in text


def test_curves_have_one_scale_and_those_of_a_mixture_one_for_each_dataset(tmp_path: Path) -> None:
    low = write_run(tmp_path / "low", curve=(0.5, 0.6))
    mixed = write_run(tmp_path / "mixed")
    entries = [
        epoch_entry(i, 0.8, mixture={"datasets": {"nih": {"macro_auroc": value}, "chexpert": {"macro_auroc": 0.9}}})
        for i, value in ((1, 0.7), (2, None))
    ]
    (mixed / HISTORY).write_text(json.dumps(entries))
    found = compare_runs(runs_of(low, mixed), paired=False)
    assert found.runs[1].dataset_curves == {"nih": (0.7, None), "chexpert": (0.9, 0.9)}
    lines = [line for line in printed(found).splitlines() if "…" in line]
    assert [line.split()[:2] for line in lines] == [["A", "▁▃"], ["B", "▆▆"], ["B,", "chexpert"], ["B,", "nih"]]
    assert "██" in lines[2] and "bars from 0.500 to 0.900" in printed(found)


def test_a_long_curve_is_thinned(tmp_path: Path) -> None:
    run = write_run(tmp_path / "long", curve=tuple(0.5 + i / 1000 for i in range(300)))
    other = write_run(tmp_path / "other")
    text = printed(compare_runs(runs_of(run, other), paired=False))
    assert "every 7th epoch" in text
    assert max(map(len, text.splitlines())) <= 100
