from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from urllib.parse import unquote

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from huggingface_hub import CommitOperationAdd, CommitOperationDelete

from chexvision.errors import ChexError, UsageError
from chexvision.shards.columns import folder_place
from chexvision.shards.info import describe
from chexvision.shards.manifest import read_manifest
from chexvision.shards.push import push_shards
from chexvision.shards.remote import hub_place, list_files
from tests.fakes.fixtures import FAULTS
from tests.fakes.hub import FakeHub
from tests.shards.pushed import DATA, CountingHub, edit, failures


def test_a_modified_remote_dataset_is_detected(hub: FakeHub, small: Path, large: Path) -> None:
    push_shards(small, DATA, private=False)
    test = "data/test-00000-of-00001.parquet"
    assert failures(edit(CommitOperationAdd("data/extra.parquet", b"x"))) == {
        "no further shards": "data/extra.parquet is not in the manifest"
    }
    other = failures(edit(CommitOperationDelete("data/extra.parquet"), CommitOperationAdd(test, large / test)))
    assert f"{test} has" in other["hashes"]
    boxes = failures(edit(CommitOperationAdd(test, small / test), CommitOperationAdd("boxes.csv", b"x")))
    assert boxes.keys() == {"hashes"}
    gone = failures(edit(CommitOperationDelete(test), CommitOperationAdd("boxes.csv", small / "boxes.csv")))
    assert gone["files present"] == f"{test} is missing"
    with pytest.raises(UsageError, match=r"has no manifest\.json"):
        failures(edit(CommitOperationDelete("manifest.json")))


def test_labels_are_read_over_the_network_without_the_images(hub: CountingHub, large: Path) -> None:
    pushed = push_shards(large, DATA, private=False)
    size = sum(path.stat().st_size for path in (large / "data").iterdir())
    assert failures(pushed) == {}
    verified, hub.sent = hub.sent, 0
    found = describe(hub_place(pushed, list_files(pushed)))
    assert 0 < verified < 0.1 * size
    assert 0 < hub.sent < 0.1 * size
    expected = asdict(describe(folder_place(large)))
    assert asdict(found) == {**expected, "name": str(pushed)}
    assert not any(".parquet" in unquote(r.path) and "/resolve/" in r.path and r.status == 200 for r in hub.requests)


@pytest.mark.parametrize("fault", FAULTS)
def test_reading_over_the_network_survives_faults(hub: FakeHub, small: Path, fault: str) -> None:
    pushed = push_shards(small, DATA, private=False)
    rules = [hub.faults.add(match, FAULTS[fault]) for match in ("GET /cdn/", "/tree/", "/resolve/", "/revision/")]
    assert failures(pushed) == {}
    assert [rule.fired for rule in rules] == [1, 1, 1, 1]


def test_counts_agree_with_the_manifest(small: Path) -> None:
    manifest = read_manifest(small)
    assert manifest is not None
    found = describe(folder_place(small))
    for name, counts in manifest.splits.items():
        split = found.splits[name]
        assert (split.images, split.patients, split.findings) == (counts.images, counts.patients, counts.findings)
    table = pa.concat_tables(
        [pq.read_table(path, columns=["age", "sex", "view"]) for path in sorted((small / "data").glob("train-*"))]
    ).to_pydict()
    train = found.splits["train"]
    assert train.sexes == {"F": table["sex"].count("F"), "M": table["sex"].count("M"), "unknown": 0}
    assert train.views["AP"] == table["view"].count("AP")
    assert (train.ages.known, train.ages.minimum, train.ages.maximum) == (
        train.images, min(table["age"]), max(table["age"]),
    )  # fmt: skip


def test_shards_of_other_tools_are_described_by_their_columns(tmp_path: Path) -> None:
    rows = {"image": [b"x"] * 3, "filename": [f"0000000{n}_000.png" for n in (1, 1, 2)]}
    path = tmp_path / "train-00000-of-00001.parquet"
    pq.write_table(pa.table({**rows, "labels": ["Mass", "No Finding", "Mass|Hernia"]}), path)
    train = describe(folder_place(tmp_path)).splits["train"]
    assert (train.images, train.patients, train.findings["Mass"], train.findings["No Finding"]) == (3, 2, 2, 1)
    assert train.ages.known == 0
    assert train.sexes == {"F": 0, "M": 0, "unknown": 3}
    pq.write_table(pa.table({**rows, "labels": ["Fracture"] * 3}), path)
    with pytest.raises(ChexError, match="Fracture"):
        describe(folder_place(tmp_path))
    pq.write_table(pa.table(rows), path)
    with pytest.raises(ChexError, match="has no column 'labels'"):
        describe(folder_place(tmp_path))
    path.write_bytes(b"nothing")
    with pytest.raises(ChexError, match="is not a readable Parquet file"):
        describe(folder_place(tmp_path))
