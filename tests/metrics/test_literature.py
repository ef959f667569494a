"""Published results record their conditions, and are comparable only on the same images."""

from __future__ import annotations

import csv
import gzip
from pathlib import Path

import pytest

from chexvision.labels import NIH
from chexvision.metrics.literature import compare_with_literature, literature_table
from chexvision.metrics.measure import measure
from chexvision.metrics.predictions import images_sha256
from chexvision.metrics.records import SplitMetrics
from tests.evaluation.conftest import random_predictions


def _metrics_of(split: str) -> SplitMetrics:
    known = literature_table().splits[split]
    return measure(random_predictions()).model_copy(update=known.model_dump())


@pytest.mark.parametrize("split", ["official", "chexnet"])
def test_published_results_are_comparable_only_on_the_same_images(split: str) -> None:
    metrics = _metrics_of(split)
    rows = compare_with_literature(metrics)
    assert {row.published.split for row in rows if row.comparable} == {split}
    assert all(row.comparable for row in rows if row.published.split == split)
    assert not any(
        row.comparable for row in compare_with_literature(metrics.model_copy(update={"images_sha256": "0"}))
    )
    fewer = metrics.model_copy(update={"macro": metrics.macro.model_copy(update={"findings": 13})})
    assert not any(row.comparable for row in compare_with_literature(fewer))


def test_every_published_result_has_a_reference_and_agrees_with_its_findings() -> None:
    table = literature_table()
    assert len({of.who for of in table.results}) == len(table.results)
    for of in table.results:
        assert of.reference.startswith("https://")
        assert of.split == "random" or of.split in table.splits
        if of.findings:
            assert len(of.findings) == len(NIH.findings)
            assert sum(of.findings) / len(NIH.findings) == pytest.approx(of.auroc, abs=1.5e-3)


@pytest.mark.parametrize(
    ("split", "name"), [("official", "official_patient_lists.csv.gz"), ("chexnet", "chexnet_patient_split.csv.gz")]
)
def test_digests_match_the_image_lists_of_the_release(split: str, name: str, real_data: Path) -> None:
    with gzip.open(real_data / name, "rt") as handle:
        patients = {row[0] for row in csv.reader(handle) if row[1] == "test"}
    with gzip.open(real_data / "Data_Entry_2017_v2020.csv.gz", "rt") as handle:
        images = [row["Image Index"] for row in csv.DictReader(handle) if row["Patient ID"] in patients]
    known = literature_table().splits[split]
    assert (len(images), images_sha256(images)) == (known.images, known.images_sha256)
