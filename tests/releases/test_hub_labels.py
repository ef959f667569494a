"""The columns of datasets on the Hub as labels."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest

from chexvision.labels import UNCERTAIN
from chexvision.releases.from_hub.hub_dataset import read_hub
from chexvision.releases.release import Reading
from tests.releases import hub_data as data
from tests.shards.pushed import CountingHub


def _numbers(seen: tuple[str, ...], prefix: str, kind: type) -> data.Row:
    return {f"{prefix} {name}": kind(name in seen) for name in data.NAMES[1:]}


def _columns(prefix: str, **keys: Any) -> dict[str, Any]:
    targets = {name.title(): {"any_of": [f"{prefix} {name}"]} for name in data.NAMES[1:]}
    return {"form": "columns", "targets": targets, **keys}


WAYS = {
    "lists of classes": data.LIST,
    "lists of texts": data.LIST | {"labels": "texts"},
    "lists that may be empty": data.LIST | {"labels": "empty", "normal": ["none", ""]},
    "joined": data.LIST | {"labels": "joined", "separator": "|"},
    "integers": _columns("int"),
    "booleans": _columns("bool"),
    "numbers": _columns("float"),
    "classes": _columns("class", positive=["yes"], negative=["no"]),
}


@pytest.fixture(scope="module")
def forms(hub: CountingHub) -> str:
    """A dataset with the same labels in many forms."""
    columns = {
        "image": data.IMAGE, "labels": data.lists_of(data.classes(*data.NAMES)), "texts": data.STRINGS,
        "empty": data.STRINGS, "joined": data.STRING,
    }  # fmt: skip
    kinds = {"int": data.INT, "bool": data.BOOL, "float": data.FLOAT, "class": data.classes("no", "yes")}
    columns |= {f"{prefix} {name}": kind for prefix, kind in kinds.items() for name in data.NAMES[1:]}
    rows = []
    for i, seen in enumerate(data.SETS):
        named = seen or ("none",)
        row = {"image": data.image(i), "labels": [data.NAMES.index(name) for name in named], "texts": list(named)}
        row |= {"empty": list(seen), "joined": "|".join(named)}
        row |= _numbers(seen, "int", int) | _numbers(seen, "bool", bool) | _numbers(seen, "float", float)
        rows.append(row | _numbers(seen, "class", int))
    return data.push("chex/forms", {"train.parquet": data.parquet(columns, rows)})


@pytest.mark.parametrize("way", WAYS)
def test_labels_in_many_forms(way: str, forms: str, tmp_path: Path) -> None:
    release = data.read("chex/forms", forms, data.label_map(tmp_path, **WAYS[way]))
    assert release.space.findings == ("Mass", "Effusion")
    assert data.values(release) == [(0, 0), (1, 0), (1, 1), (0, 1)]


def test_uncertain_and_missing_labels_stay_so(hub: CountingHub, tmp_path: Path) -> None:
    columns = {"image": data.IMAGE, "mass": data.FLOAT, "effusion": data.INT}
    rows = [
        {"image": data.image(0), "mass": -1.0, "effusion": None},
        {"image": data.image(1), "mass": math.nan, "effusion": 1},
    ]
    sha = data.push("chex/open", {"train.parquet": data.parquet(columns, rows)})
    first, second = data.values(
        data.read("chex/open", sha, data.label_map(tmp_path, form="columns", targets=data.TARGETS))
    )
    assert first[0] == UNCERTAIN and math.isnan(first[1])
    assert math.isnan(second[0]) and second[1] == 1


def test_laterals_by_a_column_of_views_are_left_out(hub: CountingHub, tmp_path: Path) -> None:
    columns = {"image": data.IMAGE, "labels": data.STRING, "view": data.STRING}
    rows = [
        {"image": data.image(i), "labels": label, "view": view}
        for i, (label, view) in enumerate([("mass", "LATERAL"), ("effusion", "pa"), ("mass", ""), ("mass", "LL")])
    ]
    sha = data.push("chex/sides", {"train.parquet": data.parquet(columns, rows)})
    label_map = data.label_map(tmp_path, **data.LIST, view=["view"])
    release = data.read("chex/sides", sha, label_map)
    assert [found.member for found in release.index.images] == ["train/0/1", "train/0/2"]
    assert data.values(release) == [(0, 1), (1, 0)]
    assert release.left_out == (("lateral view; --views all keeps them", 2),)
    everything = read_hub(Reading(f"hub:chex/sides@{sha}", label_map=label_map, views="all"))
    assert [everything.entries[found.name].view for found in everything.index.images] == ["L", "PA", None, "L"]
