"""One's own table and images of a release."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import yaml

from chexvision.releases.release import Reading
from chexvision.releases.sets import read_release
from chexvision.shards.build import build_shards
from tests.releases.built import OPTIONS
from tests.releases.conftest import Get


def test_laterals_of_ones_own_table_are_left_out(release: Get, tmp_path: Path) -> None:
    images = release("chexpert").images
    first, second = sorted(images.rglob("*frontal.jpg"))[:2]
    names = [path.relative_to(images).as_posix() for path in (first, second)]
    (tmp_path / "own.csv").write_text(f"file,side,Mass\n{names[0]},Lateral,1\n{names[1]},AP,0\n")
    label_map = tmp_path / "map.yaml"
    label_map.write_text("{name: own, image: [file], view: [side], form: columns, targets: {Mass: {any_of: [Mass]}}}")
    reading = Reading("csv", (images,), tmp_path / "own.csv", str(label_map))
    found = read_release(reading)
    assert [image.member for image in found.index.images] == [names[1]]
    assert found.left_out == (("lateral view; --views all keeps them", 1),)
    assert len(read_release(replace(reading, views="all")).index.images) == 2


def test_the_card_names_the_columns_of_the_shards(release: Get, tmp_path: Path) -> None:
    """The only image with an uncertain label is missing."""
    images = release("chexpert").images
    name = next(images.rglob("*frontal.jpg")).relative_to(images).as_posix()
    (tmp_path / "own.csv").write_text(f"file,Mass\n{name},1\nsome/gone.jpg,-1\n")
    label_map = tmp_path / "map.yaml"
    label_map.write_text("{name: own, image: [file], form: columns, targets: {Mass: {any_of: [Mass]}}}")
    chosen = OPTIONS(dataset="csv", label_map=str(label_map), max_bad=0.5)
    build_shards([images], tmp_path / "own.csv", tmp_path / "out", chosen)
    (shard,) = (tmp_path / "out" / "data").glob("*.parquet")
    described = yaml.safe_load((tmp_path / "out" / "README.md").read_text().split("---\n")[1])["dataset_info"]
    assert [column["name"] for column in described["features"]] == pq.read_schema(shard).names


@pytest.mark.parametrize("rule", ["", ", patient: [person]", ", patient_pattern: '(patient[0-9]+)'"])
def test_a_table_that_names_no_patients_says_so(rule: str, release: Get, tmp_path: Path) -> None:
    images = release("chexpert").images
    names = [path.relative_to(images).as_posix() for path in images.rglob("*frontal.jpg")]
    (tmp_path / "own.csv").write_text("file,person,Mass\n" + "".join(f"{name},7,1\n" for name in names))
    label_map = tmp_path / "map.yaml"
    label_map.write_text(f"{{name: own, image: [file], form: columns, targets: {{Mass: {{any_of: [Mass]}}}}{rule}}}")
    reading = Reading("csv", (images,), tmp_path / "own.csv", str(label_map))
    assert read_release(reading).knows_patients == bool(rule)
