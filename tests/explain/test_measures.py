from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np
import pytest

from chexvision.errors import UsageError
from chexvision.explain.chest import chest_region
from chexvision.explain.measures import GRID, Target, agreement, centre_map, otsu_mask, random_agreement
from chexvision.explain.overlay import Heat
from chexvision.nih.boxes import Box, box_mask, read_boxes

HEAD = "Image Index,Finding Label,Bbox [x,y,w,h],,,\n"
QUARTER = (Box(0, 0, 0.5, 0.5),)


def _spot(row: int, column: int, size: int = 8) -> Heat:
    heat = np.zeros((GRID, GRID), np.float32)
    heat[row : row + size, column : column + size] = 1
    return heat


def test_a_map_equal_to_the_box_has_full_agreement() -> None:
    measured = agreement(box_mask(QUARTER, GRID).astype(np.float32), Target.of(QUARTER))
    assert (measured.pointing, measured.iou, measured.energy) == (1, 1, 1)


def test_a_map_next_to_the_box_has_no_overlap_but_may_point_within_the_tolerance() -> None:
    for distance, hit in ((14, 1), (17, 0)):
        measured = agreement(_spot(10, GRID // 2 + distance), Target.of(QUARTER))
        assert (measured.pointing, measured.iou, measured.energy) == (hit, 0, 0)


def test_an_empty_map_is_a_miss_without_a_share_outside() -> None:
    measured = agreement(np.zeros((GRID, GRID), np.float32), Target.of(QUARTER))
    assert (measured.pointing, measured.iou, measured.energy) == (0, 0, 0)
    assert np.isnan(measured.outside)


def test_a_corner_marker_lies_outside_the_chest_and_a_lung_inside() -> None:
    assert agreement(_spot(4, GRID - 14), Target.of(QUARTER)).outside == 1
    assert agreement(_spot(100, 70), Target.of(QUARTER)).outside == 0


def test_the_chest_region_contains_the_boxes_of_the_release(real_data: Path) -> None:
    boxes = [box for of in read_boxes(real_data / "BBox_List_2017.csv.gz", 1024).values() for box in of]
    region = chest_region(GRID)
    masks = [box_mask((box,), GRID) for box in boxes]
    assert len(boxes) == 984
    assert np.mean([mask[region].sum() / mask.sum() for mask in masks]) == pytest.approx(0.98, abs=0.005)
    assert region.mean() == pytest.approx(0.65, abs=0.01)


@pytest.mark.parametrize("box", [Box(0.1, 0.2, 0.5, 0.5), Box(0.6, 0.7, 0.65, 0.8)])
def test_the_random_baseline_is_the_mean_over_all_shifts(box: Box) -> None:
    """Counted shift by shift, on every 8th row and column."""
    target = Target.of((box,))
    heat = _spot(50, 60, 20)
    heat[57, 71] = 1.2
    expected = random_agreement(heat, target)
    moves = range(0, GRID, 8)
    moved = [agreement(np.roll(heat, (y, x), (0, 1)), target) for y in moves for x in moves]
    assert np.mean([one.iou for one in moved]) == pytest.approx(expected.iou, rel=0.1)
    assert np.mean([one.energy for one in moved]) == pytest.approx(expected.energy, rel=0.1)
    assert np.mean([one.pointing for one in moved]) == pytest.approx(expected.pointing, rel=0.1)


def test_the_centre_baseline_points_to_the_centre() -> None:
    heat = centre_map()
    assert agreement(heat, Target.of((Box(0.45, 0.45, 0.55, 0.55),))).pointing == 1
    assert agreement(heat, Target.of((Box(0.0, 0.0, 0.3, 0.3),))).pointing == 0
    assert 0.1 < otsu_mask(heat).mean() < 0.5


def test_boxes_are_read_as_the_release_writes_them(tmp_path: Path) -> None:
    path = tmp_path / "boxes.csv.gz"
    path.write_bytes(gzip.compress((HEAD + "a.png,Infiltrate,512,256,256,128,,,\na.png,Mass,0,0,64,64\n").encode()))
    assert read_boxes(path, 1024) == {
        ("a.png", "Infiltration"): (Box(0.5, 0.25, 0.75, 0.375),),
        ("a.png", "Mass"): (Box(0, 0, 0.0625, 0.0625),),
    }


def test_several_boxes_of_a_finding_are_one_target(tmp_path: Path) -> None:
    path = tmp_path / "boxes.csv"
    path.write_text(HEAD + "a.png,Nodule,0,0,512,512\na.png,Nodule,512,512,512,512\n")
    assert box_mask(read_boxes(path, 1024)["a.png", "Nodule"], GRID).mean() == 0.5


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("name,x\n", "is not a box list"),
        (HEAD, "holds no box"),
        (HEAD + "a.png,Efusion,1,1,2,2\n", "line 2: unknown finding 'Efusion'"),
        (HEAD + "a.png,Mass,1,one,2,2\n", "not four numbers"),
        (HEAD + "a.png,Mass,1,1,0,2\n", "is empty"),
        (HEAD + "a.png,Mass,1,1,nan,2\n", "is empty"),
        (HEAD + "a.png,Mass\n", "unknown finding ''"),
        (HEAD + "a.png,Mass,1000,1,200,2\n", "beyond an image of 1024x1024 pixels.*--box-side"),
    ],
)
def test_a_bad_box_list_is_named(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "boxes.csv"
    path.write_text(text)
    with pytest.raises(UsageError, match=message):
        read_boxes(path, 1024)
    with pytest.raises(UsageError, match="there is no file"):
        read_boxes(tmp_path / "none.csv", 1024)
