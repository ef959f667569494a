from __future__ import annotations

import csv
from collections import Counter
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from chexvision.images.radiograph import decode_grey
from chexvision.labels import NIH
from chexvision.shards.manifest import Manifest
from chexvision.shards.schema import list_shards
from chexvision.shards.verify import verify_shards
from chexvision.synthetic.anatomy import Scene, sample_chest
from chexvision.synthetic.benign import add_benign
from chexvision.synthetic.prevalence import FLOOR, sample_findings
from chexvision.synthetic.render import render_radiograph
from chexvision.synthetic.synthesize import plan_visits, synthesize
from tests.shards.conftest import tree


def make(out: Path, **changed: int) -> Manifest:
    values = {"images": 60, "seed": 3, "size": 64, "workers": 2} | changed
    return synthesize(out, encoding="png", shard_bytes=10**8, overwrite=False, **values)


def test_dataset_verifies_and_is_marked_as_synthetic(tmp_path: Path) -> None:
    manifest = make(tmp_path / "synthetic")
    assert manifest.images == 60
    assert [c.name for c in verify_shards(tmp_path / "synthetic", sample=0, seed=0, workers=2) if not c.ok] == []
    card = (tmp_path / "synthetic" / "README.md").read_text()
    assert "No patient is in this set" in card and "A program rendered every image" in card


def test_same_seed_gives_the_same_bytes_with_any_number_of_workers(tmp_path: Path) -> None:
    for workers in (1, 3):
        make(tmp_path / str(workers), workers=workers)
    make(tmp_path / "other", seed=4)
    assert tree(tmp_path / "1") == tree(tmp_path / "3")
    assert tree(tmp_path / "1")["boxes.csv"] != tree(tmp_path / "other")["boxes.csv"]


def test_label_statistics_match_the_release_above_the_floor() -> None:
    sampled = sample_findings(np.random.default_rng(0), 20_000)
    counts = Counter(finding for found in sampled for finding in found or (NIH.normal,))
    shares = {name: count / 20_000 for name, count in counts.items()}
    assert shares[NIH.normal] == pytest.approx(0.54, abs=0.02)
    assert shares["Infiltration"] == pytest.approx(0.177, abs=0.015)
    assert shares["Hernia"] == pytest.approx(FLOOR, abs=0.001)
    both = sum({"Effusion", "Atelectasis"} <= set(found) for found in sampled)
    assert both / 20_000 == pytest.approx(0.03, abs=0.01)


@pytest.mark.parametrize("seed", range(3))
def test_each_split_of_1500_images_has_all_findings_and_disjoint_patients(seed: int) -> None:
    visits = plan_visits(1500, seed)
    assert len({visit.filename for _, visit in visits}) == len(visits) == 1500
    patients: dict[str, set[int]] = {}
    for split, visit in visits:
        patients.setdefault(split, set()).add(visit.patient)
    for split in ("train", "validation", "test"):
        found = Counter(finding for name, visit in visits if name == split for finding in visit.findings)
        assert min(found[finding] for finding in NIH.findings) >= 3
    assert sum(map(len, patients.values())) == len(set().union(*patients.values()))


@pytest.mark.parametrize("finding", NIH.findings)
def test_each_finding_changes_the_image_inside_its_boxes(finding: str) -> None:
    size = 160
    for seed in range(4):
        chest = sample_chest(np.random.default_rng(seed), female=bool(seed % 2))
        plain, none = render_radiograph(np.random.default_rng(seed), chest, (), "PA", size)
        shown, boxes = render_radiograph(np.random.default_rng(seed), chest, (finding,), "PA", size)
        assert none == [] and {box.finding for box in boxes} == {finding}
        inside = np.zeros((size, size), bool)
        for box in boxes:
            inside[round(box.y) : round(box.y + box.height), round(box.x) : round(box.x + box.width)] = True
        change = np.abs(shown.astype(float) - plain)
        assert change[inside].mean() > 5
        # Soft edges extend a little beyond a box. Anything more would reveal a finding without its sign.
        assert change[~inside].mean() < 1


@pytest.mark.parametrize("view", ["PA", "AP"])
def test_normal_lungs_show_benign_structures(view: str) -> None:
    added = []
    for seed in range(40):
        chest = sample_chest(np.random.default_rng(seed), female=bool(seed % 2))
        scene = Scene.of(np.random.default_rng(seed), 128, chest)
        add_benign(np.random.default_rng(seed), scene, chest, view)
        added.append(scene.haze)
    lungs = np.stack(added)[:, 30:90, 20:108]
    assert (lungs.std(axis=(1, 2)) > 0.005).all()
    bright = (lungs.max(axis=(1, 2)) > 0.15).mean()
    assert bright > 0.5  # as dense as a sign, so that density alone does not separate normal from abnormal
    assert len({haze.tobytes() for haze in added}) == len(added)


def test_boxes_are_inside_their_images(tmp_path: Path) -> None:
    make(tmp_path / "synthetic")
    shown: dict[str, set[str]] = {}
    for paths in list_shards(tmp_path / "synthetic").values():
        for row in pq.read_table(paths[0], columns=["filename", "labels", "image"]).to_pylist():
            shown[row["filename"]] = set(NIH.parse(row["labels"]))
            assert decode_grey(row["image"]["bytes"]).std() > 20
    boxed: dict[str, set[str]] = {name: set() for name in shown}
    with (tmp_path / "synthetic" / "boxes.csv").open() as file:
        rows = list(csv.reader(file))
    assert rows[0] == ["Image Index", "Finding Label", "Bbox [x", "y", "w", "h]"]
    for name, finding, x, y, width, height in rows[1:]:
        boxed[name].add(finding)
        assert float(width) > 0 and float(height) > 0
        assert float(x) + float(width) <= 64.01 and float(y) + float(height) <= 64.01
    assert boxed == shown
