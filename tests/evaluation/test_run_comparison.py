"""Published runs side by side: what differs, whether it is comparable, and the paired test."""

from __future__ import annotations

import csv
import io
import json
import re
import shutil
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
from chexvision.metrics.records import Difference, IntervalMethod
from chexvision.report.many_runs.comparison_csv import comparison_csv
from chexvision.report.many_runs.comparison_text import print_run_comparison
from chexvision.synthetic.synthesize import synthesize
from tests.present import present
from tests.published_runs import change, epoch_entry, write_run

METHOD = IntervalMethod(resamples=100, seed=0)


def runs_of(*folders: Path) -> list[PublishedRun]:
    return [read_published(path.name, path) for path in folders]


def printed(found: RunComparison) -> str:
    file = io.StringIO()
    print_run_comparison(LiteralConsole(file=file, width=100), found)
    return file.getvalue()


def test_a_run_has_the_figures_of_its_own_records(tmp_path: Path) -> None:
    one, two = write_run(tmp_path / "one"), write_run(tmp_path / "two", recipe="swin-t", noise=0.5, curve=(0.5, 0.6))
    change(two / RUN, lambda of: of.update(train_seconds=7265))
    found = compare_runs(runs_of(one, two), paired=False)
    for folder, run in zip((one, two), found.runs, strict=True):
        metrics = json.loads((folder / METRICS).read_text())["systems"][0]["metrics"]
        assert run.macro_auroc.value == metrics["macro"]["estimates"]["auroc"]["value"]
        assert run.binary_auroc.value == metrics["binary"]["estimates"]["auroc"]["value"]
        aurocs = {name: of["estimates"]["auroc"]["value"] for name, of in metrics["findings"].items()}
        assert {name: of.value for name, of in run.findings.items()} == aurocs
        assert run.curve == tuple(of["macro_auroc"] for of in json.loads((folder / HISTORY).read_text()))
    assert found.recipe["name"] == ("densenet", "swin-t")
    text = printed(found)
    assert re.search(r"^name +densenet +swin-t *$", text, re.MULTILINE)
    assert re.search(r"^B .* 2 of 2 +2h01m ", text, re.MULTILINE)
    shown = f"{present(found.runs[1].findings['Hernia'].value):.3f}"
    assert re.search(rf"^Hernia .* {shown} \(", text, re.MULTILINE)


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


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A good and a poor run of the same synthetic images, with probabilities."""
    folder = tmp_path_factory.mktemp("pair")
    shards = folder / "shards"
    synthesize(shards, images=400, seed=3, size=32, encoding="png", shard_bytes=10**8, workers=2, overwrite=False)
    source = find_shards(shards)
    good = write_run(folder / "good", noise=0.15, source=source)
    return good, write_run(folder / "poor", noise=0.9, seed=1, source=source)


def test_runs_of_the_same_images_are_tested_by_image(pair: tuple[Path, Path]) -> None:
    good, poor = pair
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
    assert row.split()[1:4] == [f"{of.first:.3f}", f"{of.second:.3f}", f"{of.difference.value:+.4f}"]
    (row,) = [line for line in text.splitlines() if line.startswith("B ") and "synthetic" in line]
    assert f"{present(comparison.macro.difference.value):+.4f}" in row and "1 synthetic" in row


def test_a_table_for_notebooks_has_a_row_of_each_run_and_output(pair: tuple[Path, Path], tmp_path: Path) -> None:
    good, poor = pair
    other = write_run(tmp_path / "other", noise=0.4)

    def renamed(of: Any) -> None:
        findings = of["systems"][0]["metrics"]["findings"]
        findings["=1+1"] = findings.pop("Hernia")

    change(other / METRICS, renamed)
    found = compare_runs(runs_of(good, other, poor), paired=True, method=METHOD)
    rows = {(row["run"], row["output"]): row for row in csv.DictReader(io.StringIO(comparison_csv(found)))}
    assert len(rows) == 3 * 16 and ("other", "'=1+1") in rows
    assert [rows[name, "macro"]["test_set"] for name in ("good", "other", "poor")] == ["1", "2", "1"]
    (comparison,) = found.comparisons
    for run in found.runs:
        for name, of in {"Abnormal": run.binary_auroc, **run.findings}.items():
            row = rows[run.name, "'=1+1" if name == "=1+1" else name]
            assert row["auroc"] == ("" if of.value is None else str(of.value))
            assert [row["low"], row["high"]] == (["", ""] if of.interval is None else [*map(str, of.interval)])
            test = comparison.outputs[name] if run.name == "poor" else Difference()
            assert row["difference"] == ("" if test.difference.value is None else str(test.difference.value))
            assert row["p"] == ("" if test.p_patients_holm is None else str(test.p_patients_holm))
    assert rows["poor", "macro"]["p"] == str(comparison.macro.p_patients)
    assert rows["good", "macro"]["difference"] == rows["other", "macro"]["difference"] == ""


def test_probabilities_of_another_model_are_not_paired(pair: tuple[Path, Path], tmp_path: Path) -> None:
    good, poor = pair
    two = tmp_path / "two"
    shutil.copytree(poor, two)
    (two / PROBABILITIES).write_bytes((good / PROBABILITIES).read_bytes())
    reason = compare_runs(runs_of(good, two), paired=True, method=METHOD).untested["two"]
    assert reason.startswith("the probabilities of two have an AUROC of ") and reason.endswith("of another model")


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
    assert found.untested["images"] == "images was measured on other images than one"
    assert "same findings: Edema" in found.untested["finding"]
    assert "over 13 findings, that of one over 14" in found.untested["labels"]
    assert "other shards than one; synthetic images" in found.untested["synthetic"]
    text = printed(found)
    assert text.count("not comparable: ") == 4
    assert [run.test_set for run in found.runs] == [1, 2, 3, 4, 5]
    assert "Test set 2: 1,234 test images of " in text and "Compare only figures of the same test set." in text


def test_each_figure_has_the_number_of_its_test_set(tmp_path: Path) -> None:
    one, two, other = (
        write_run(tmp_path / name, noise=noise) for name, noise in (("a", 0.3), ("b", 0.5), ("c", 0.4))
    )
    change(other / METRICS, lambda of: of["systems"][0]["metrics"].update(images_sha256="f" * 64))
    change(other / METRICS, lambda of: of.update(synthetic=True))
    found = compare_runs(runs_of(one, other, two), paired=False)
    lines = printed(found).splitlines()
    table = lines[
        next(i for i, line in enumerate(lines) if line.split() == ["run", "test", "set", "macro", "AUROC"]) :
    ]
    values = [f"{run.macro_auroc.value:.3f}" for run in found.runs]
    assert len(set(values)) == 3
    shown = [line.split(" (")[0].split() for line in table[1:4]]
    assert shown == [["A", "1", values[0]], ["B", "2", "synthetic", values[1]], ["C", "1", values[2]]]
    outputs = next(line.split() for line in table if line.startswith("test set "))
    assert outputs == ["test", "set", "1", "2", "1"]
    mass = next(line.split() for line in table if line.startswith("Mass "))
    assert mass[1:] == [f"{run.findings['Mass'].value:.3f}" for run in found.runs]
    assert "synthetic, which say nothing about patients" in " ".join(table)


def test_runs_of_the_same_images_with_other_labels_are_not_comparable(tmp_path: Path) -> None:
    one, two = write_run(tmp_path / "one"), write_run(tmp_path / "two")

    def relabeled(of: Any) -> None:
        mass = of["systems"][0]["metrics"]["findings"]["Mass"]
        mass.update(positives=mass["positives"] - 1, unknown=1)

    change(two / METRICS, relabeled)
    found = compare_runs(runs_of(one, two), paired=True)
    assert found.why_not == ("two and one were measured with other labels of the same images: Mass",)


def test_of_a_partly_synthetic_mixture_only_the_synthetic_shards_must_be_the_same(tmp_path: Path) -> None:
    def mixed(name: str, real: str, synthetic: str) -> Path:
        run = write_run(tmp_path / name)

        def parts(of: Any) -> None:
            metrics = of["systems"][0]["metrics"]
            known = {"dataset": "d", "split": "test", "metrics": metrics}
            of["mixture"] = [
                {"name": which, "dataset_identity": identity, **known}
                for which, identity in (("nih", real * 64), ("made", synthetic * 64))
            ]

        def trained(of: Any) -> None:
            of["datasets"] = [
                _trained_on(of) | {"name": "nih"},
                _trained_on(of) | {"name": "made", "synthetic": True},
            ]

        change(run / METRICS, parts)
        change(run / RUN, trained)
        return run

    runs = runs_of(mixed("one", "a", "b"), mixed("resized", "c", "b"), mixed("redrawn", "a", "d"))
    found = compare_runs(runs, paired=False)
    assert found.why_not == (
        "redrawn was measured on other shards than one; synthetic images have the same names in all",
    )
    assert [run.test_set for run in found.runs] == [1, 1, 2]
    assert {run.synthetic for run in found.runs} == {"partly synthetic"}
    (tmp_path / "resized" / RUN).unlink()  # nothing tells which part is synthetic
    assert len(compare_runs(runs_of(tmp_path / "one", tmp_path / "resized"), paired=False).why_not) == 1


def test_a_terminal_of_80_columns_shows_every_key_letter_and_number(tmp_path: Path) -> None:
    runs = [write_run(tmp_path / f"run{i}", recipe=("densenet", "swin-t")[i % 2], noise=0.3) for i in range(10)]
    found = compare_runs(runs_of(*runs), paired=False)
    file = io.StringIO()
    print_run_comparison(LiteralConsole(file=file, width=80), found)
    lines = file.getvalue().splitlines()
    assert sum(line.startswith("model.backbone ") for line in lines) == 3  # four runs each
    assert [line[0] for line in lines if " test set" not in line and "(" in line] == list("ABCDEFGHIJ")
    assert "…" not in "".join(line for line in lines if "in epoch" not in line)
    assert [len(line.split()) for line in lines if line.startswith("Pleural_Thickening ")] == [9, 3]


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
