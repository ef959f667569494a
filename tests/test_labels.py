from __future__ import annotations

import csv
import gzip
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chexvision.labels import FINDINGS, format_labels, is_abnormal, multi_hot, parse_labels

subsets = st.sets(st.sampled_from(FINDINGS))


@given(subsets, st.randoms())
def test_labels_survive_any_order_and_come_out_canonical(findings: set[str], random: object) -> None:
    shuffled = list(findings)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    text = "|".join(shuffled) or "No Finding"
    parsed = parse_labels(text)
    assert parsed == tuple(finding for finding in FINDINGS if finding in findings)
    assert parse_labels(format_labels(parsed)) == parsed
    assert sum(multi_hot(text)) == len(findings)
    assert is_abnormal(text) == bool(findings)


@pytest.mark.parametrize("text", ["", "No Finding|Mass", "Effusion|Pleural Thickening", "mass"])
def test_a_label_that_is_no_label_of_the_release_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"unknown finding|joins"):
        parse_labels(text)


def test_every_label_of_the_release_is_read(real_data: Path) -> None:
    with gzip.open(real_data / "Data_Entry_2017_v2020.csv.gz", "rt") as table:
        texts = {row["Finding Labels"] for row in csv.DictReader(table)}
    seen = {finding for text in texts for finding in parse_labels(text)}
    assert seen == set(FINDINGS)
