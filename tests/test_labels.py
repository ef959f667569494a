from __future__ import annotations

import csv
import gzip
import math
from collections.abc import Callable
from pathlib import Path
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from chexvision.labels import NIH, UNCERTAIN, UNKNOWN, LabelCounts, LabelSpace

SMALL = LabelSpace(findings=("Opacity", "Fracture", "Pleural other"), normal="Healthy")
subsets = st.sets(st.sampled_from(NIH.findings))


@given(subsets, st.randoms())
def test_labels_are_read_in_any_order_and_written_in_the_order_of_the_set(findings: set[str], random: Random) -> None:
    shuffled = list(findings)
    random.shuffle(shuffled)
    text = "|".join(shuffled) or "No Finding"
    parsed = NIH.parse(text)
    assert parsed == tuple(finding for finding in NIH.findings if finding in findings)
    assert NIH.parse(NIH.format(parsed)) == parsed
    assert NIH.values(text) == tuple(float(finding in findings) for finding in NIH.findings)
    assert "|".join(NIH.named(NIH.values(text))) == NIH.format(parsed)


@pytest.mark.parametrize("text", ["", "No Finding|Mass", "Effusion|Pleural Thickening", "mass", "Healthy"])
def test_a_label_that_is_not_in_the_set_is_refused(text: str) -> None:
    for read in (NIH.parse, NIH.values):
        with pytest.raises(ValueError, match=r"unknown finding|joins"):
            read(text)


@pytest.mark.parametrize(
    ("texts", "values", "named"),
    [
        (("Healthy",), (0, 0, 0), ("Healthy",)),
        (("Healthy", "", None), (0, 0, 0), ("Healthy",)),
        (("Fracture", "Opacity", None), (UNCERTAIN, 1, 0), ("Fracture",)),
        (("Fracture", None, "Pleural other|Opacity"), (UNKNOWN, 1, UNKNOWN), ("Fracture",)),
        (("", "Opacity", "Fracture"), (UNCERTAIN, UNKNOWN, 0), ()),
        (("", None, "Opacity|Fracture|Pleural other"), (UNKNOWN, UNKNOWN, UNKNOWN), ()),
    ],
)
def test_uncertain_and_unknown_labels_are_read(
    texts: tuple[str, ...], values: tuple[float, ...], named: tuple[str, ...]
) -> None:
    assert repr(SMALL.values(*texts)) == repr(tuple(map(float, values)))  # equal including NaN
    assert SMALL.named(SMALL.values(*texts)) == named


@pytest.mark.parametrize(
    ("texts", "problem"),
    [
        (("Opacity", "Opacity", None), "'Opacity' has two different labels"),
        (("Opacity", "Fracture", "Fracture"), "'Fracture' has two different labels"),
        (("Healthy", "Fracture", None), "contradicts"),
        (("Healthy", None, "Fracture"), "contradicts"),
        (("Opacity", "Rib", None), "unknown finding 'Rib'"),
        (("", "", None), "unknown finding ''"),
    ],
)
def test_contradictory_labels_are_refused(texts: tuple[str, ...], problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        SMALL.values(*texts)


def test_counts_cover_positive_findings_normal_images_and_unknown_labels() -> None:
    counts = LabelCounts(SMALL)
    counts.add((0, 0, 0), 5)
    counts.add((1, UNCERTAIN, 0))
    counts.add((0, math.nan, 0), 2)
    assert counts.findings == {"Opacity": 1, "Fracture": 0, "Pleural other": 0, "Healthy": 5}
    assert counts.open_labels == {"Fracture": 3}


@pytest.mark.parametrize(
    "make",
    [
        lambda: LabelSpace(findings=()),
        lambda: LabelSpace(findings=("Mass", "mass")),
        lambda: LabelSpace(findings=("Abnormal",)),
        lambda: LabelSpace(findings=("Mass", "No Finding")),
        lambda: LabelSpace(findings=("Mass|Nodule",)),
        lambda: LabelSpace(findings=("Mass",), normal="-"),
    ],
)
def test_a_label_set_with_ambiguous_names_is_refused(make: Callable[[], LabelSpace]) -> None:
    with pytest.raises(ValidationError):
        make()


def test_every_label_of_the_release_is_read(real_data: Path) -> None:
    with gzip.open(real_data / "Data_Entry_2017_v2020.csv.gz", "rt") as table:
        texts = {row["Finding Labels"] for row in csv.DictReader(table)}
    seen = {finding for text in texts for finding in NIH.parse(text)}
    assert seen == set(NIH.findings)
