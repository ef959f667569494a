"""Small copies of the chest radiographs on the Hub, in the columns and files that these have."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from chexvision.errors import UsageError
from chexvision.images.radiograph import decode_grey
from chexvision.images.sources import read_images
from chexvision.label_maps.label_map import label_map_path, read_label_map
from chexvision.labels import UNCERTAIN
from chexvision.releases.from_hub.hub_dataset import read_hub
from chexvision.releases.release import Reading, Release
from chexvision.shards.build import build_shards
from tests.releases import hub_data as data
from tests.releases.built import OPTIONS
from tests.shards.pushed import CountingHub

NIH = ("No Finding", "Mass", "Effusion")
NIH_TARGETS = {name: {"any_of": [name]} for name in NIH[1:]}
# `Sequence(ClassLabel)` in the metadata of files that `datasets` before 4.0 wrote.
SEQUENCE = ({"feature": data.classes(*NIH)[0], "_type": "Sequence"}, pa.list_(pa.int64()))
ENCODED = ({"bytes": data.BINARY[0], "path": data.STRING[0]}, data.IMAGE[1])


def _pixels(release: Release) -> list[bytes]:
    return [decode_grey(load()).tobytes() for _, load in read_images(list(release.index.images))]


def _expected(count: int) -> list[bytes]:
    return [data.pixels(i).tobytes() for i in range(count)]


def _file(columns: dict[str, data.Kind], labels: list[Any], column: str = "labels", start: int = 0) -> bytes:
    rows = [{"image": data.image(start + i), column: value} for i, value in enumerate(labels)]
    return data.parquet({"image": data.IMAGE, **columns}, rows)


def test_sequences_of_classes(hub: CountingHub, tmp_path: Path) -> None:
    """As Sohaibsoussi/NIH-Chest-X-ray-dataset-small and the copies of alkzar90/NIH-Chest-X-ray-dataset."""
    sha = data.push("chex/sequence", {"data/train-0.parquet": _file({"labels": SEQUENCE}, [[0], [2, 1], [1]])})
    label_map = data.label_map(tmp_path, form="list", labels="labels", normal="No Finding", targets=NIH_TARGETS)
    assert data.values(data.read("chex/sequence", sha, label_map)) == [(0, 0), (1, 1), (1, 0)]


def test_lists_of_texts_with_patients_and_a_valid_split(hub: CountingHub, tmp_path: Path) -> None:
    """As BahaaEldin0/NIH-Chest-Xray-14."""
    columns: dict[str, data.Kind] = {"image": data.IMAGE, "label": data.STRINGS}
    columns |= {"Patient ID": data.INT, "View Position": data.STRING}
    files = {}
    for start, split in enumerate(("train", "valid", "test")):
        rows = [
            {
                "image": data.image(9 * start + i),
                "label": [*labels],
                "Patient ID": 9 * start + i,
                "View Position": "PA",
            }
            for i, labels in enumerate((NIH[:1], NIH[1:], NIH[2:]))
        ]
        files[f"data/{split}-00000-of-00001.parquet"] = data.parquet(columns, rows)
    keys = {"form": "list", "labels": "label", "normal": "No Finding", "patient": ["Patient ID"]}
    label_map = data.label_map(tmp_path, **keys, view=["View Position"], targets=NIH_TARGETS)
    release = data.read("chex/texts", data.push("chex/texts", files), label_map)
    assert data.values(release) == [(0, 0), (1, 1), (0, 1)] * 3
    assert sorted((release.splits or {}).values()) == ["test"] * 3 + ["train"] * 3 + ["validation"] * 3


CHEXPERT_CLASSES = data.classes("unlabeled", "uncertain", "absent", "present")


def test_classes_of_chexpert(hub: CountingHub, tmp_path: Path) -> None:
    """As danjacobellis/chexpert: a copy of the included map, whose cells are the classes."""
    included = read_label_map("chexpert")
    findings = [label for target in included.targets.values() for label in target.any_of]
    heads: dict[str, data.Kind] = {
        "Path": data.STRING, "Sex": data.classes("Male", "Female"),
        "Frontal/Lateral": data.classes("Frontal", "Lateral"),
        "No Finding": CHEXPERT_CLASSES, **dict.fromkeys(findings, CHEXPERT_CLASSES),
    }  # fmt: skip
    rows = []
    for patient, (normal, mark) in enumerate([(3, 0), (0, 3), (0, 1), (0, 2), (0, 0)], 1):
        row = {
            "image": data.image(patient),
            "Path": f"x/train/patient0000{patient}/study1/view1_frontal.jpg",
            "Sex": 1,
        }
        row |= {"Frontal/Lateral": int(patient == 4), "No Finding": normal, **dict.fromkeys(findings, 0)}
        rows.append(row | {"Edema": mark})
    file = data.parquet({"image": data.IMAGE, **heads}, rows)
    sha = data.push(
        "chex/classes", {"data/train-0.parquet": file, "data/validation-0.parquet": _renamed(heads, rows)}
    )
    copied = label_map_path("chexpert").read_text()
    (tmp_path / "map.yaml").write_text(
        copied + "positive: [present]\nnegative: [absent]\nuncertain: [uncertain]\nunknown_if: [unlabeled]\n"
    )
    release = data.read("chex/classes", sha, str(tmp_path / "map.yaml"))
    edema, others = release.space.findings.index("Edema"), release.space.findings.index("Fracture")
    found = data.values(release)[:4]
    assert [row[edema] for row in found[:3]] == [0, 1, UNCERTAIN] and math.isnan(found[3][edema])
    assert found[0][others] == 0 and all(math.isnan(row[others]) for row in found[1:])
    assert release.terms is not None and release.terms.credentialed
    assert {*(release.splits or {}).values()} == {"train", "validation"}


def _renamed(heads: dict[str, data.Kind], rows: list[data.Row]) -> bytes:
    """Other patients."""
    moved = [row | {"Path": row["Path"].replace("patient0", "patient6")} for row in rows]
    return data.parquet({"image": data.IMAGE, **heads}, moved)


def test_shards_without_a_test_split(hub: CountingHub, tmp_path: Path) -> None:
    columns = {"labels": data.STRING}
    files = {
        f"data/{split}-0.parquet": _file(columns, ["mass"] * 3, start=9 * i)
        for i, split in enumerate(["train", "dev"])
    }
    sha = data.push("chex/dev", files)
    options = OPTIONS(dataset=f"hub:chex/dev@{sha}", label_map=data.label_map(tmp_path, **data.LIST))
    manifest = build_shards([], None, tmp_path / "out", options)
    assert {name: counts.images for name, counts in manifest.splits.items() if counts.images} == {
        "train": 3, "validation": 3,
    }  # fmt: skip


@pytest.mark.parametrize("kind", [data.BINARY, ENCODED], ids=["bytes", "structs"])
def test_images_that_are_no_images_for_datasets(kind: data.Kind, hub: CountingHub, tmp_path: Path) -> None:
    values = [data.png(i) if kind is data.BINARY else {"bytes": data.png(i), "path": None} for i in range(3)]
    rows = [{"picture": value, "labels": "mass"} for value in values]
    name = f"chex/{'binary' if kind is data.BINARY else 'struct'}"
    sha = data.push(name, {"train.parquet": data.parquet({"picture": kind, "labels": data.STRING}, rows)})
    release = data.read(name, sha, data.label_map(tmp_path, **data.LIST | {"image": ["picture"]}))
    assert _pixels(release) == _expected(3)
    with pytest.raises(UsageError, match="has no column of images: picture: "):
        data.read(name, sha, data.label_map(tmp_path, **data.LIST))


def test_a_number_for_each_class(hub: CountingHub, tmp_path: Path) -> None:
    """As copies of ChestMNIST."""
    column = {"label": data.lists_of(data.INT)}
    rows = [[0, 1, 0], None, [0, 0, 0], [1, 0, 1]]
    sha = data.push("chex/vector", {"train.parquet": _file(column, rows, "label")})
    targets = {"Mass": {"any_of": ["label[0]"]}, "Effusion": {"any_of": ["label[2]"]}}
    label_map = data.label_map(tmp_path, form="columns", targets=targets)
    found = data.values(data.read("chex/vector", sha, label_map))
    assert np.isnan(found.pop(1)).all()
    assert found == [(0, 0), (0, 0), (1, 1)]
    targets["Effusion"] = {"any_of": ["label[3]"]}
    with pytest.raises(UsageError, match=r"train/0/0: label has no element 3"):
        data.read("chex/vector", sha, data.label_map(tmp_path, form="columns", targets=targets))
    as_list = data.label_map(tmp_path, form="list", labels="label", targets={"Mass": {"any_of": ["0", "1"]}})
    with pytest.raises(UsageError, match=r"label has 3 numbers 0 or 1 an image.* form: columns.*'label\[0\]'"):
        data.read("chex/vector", sha, as_list)


def test_numbers_of_classes_without_names(hub: CountingHub, tmp_path: Path) -> None:
    column = {"labels": data.lists_of(data.INT)}
    sha = data.push("chex/numbers", {"train.parquet": _file(column, [[0], [1, 2], [2]])})
    targets = {"Mass": {"any_of": [1]}, "Effusion": {"any_of": [2]}}
    label_map = data.label_map(tmp_path, form="list", labels="labels", normal="0", targets=targets)
    assert data.values(data.read("chex/numbers", sha, label_map)) == [(0, 0), (1, 1), (0, 1)]


def test_class_folders_in_archives_are_to_be_downloaded(hub: CountingHub, tmp_path: Path) -> None:
    sha = data.push("chex/zipped", {"data/images_001.zip": data.archive({"mass/1.png": data.png(1)})})
    message = (
        rf"images in archives \(data/images_001\.zip\); download it with: hf download chex/zipped .*--revision {sha} "
    )
    with pytest.raises(UsageError, match=message):
        data.read("chex/zipped", sha, data.label_map(tmp_path, **data.LIST))


def _script(hub: CountingHub, name: str, copies: dict[str, bytes]) -> tuple[str, str]:
    """A dataset that is a script; the commit, and that of the Hub's copies in Parquet."""
    sha = data.push(f"chex/{name}", {f"{name}.py": b"import os", "data/images_001.zip": b"PK"})
    repo = hub.repos["dataset", f"chex/{name}"]
    entries = {path: repo.large(path, hub.blobs.add(content)) for path, content in copies.items()}
    copy = repo.commit(None, "Update parquet files", "", entries).sha
    repo.branches["refs/convert/parquet"] = copy
    return sha, copy


def test_a_script_is_read_from_the_hubs_copy(hub: CountingHub, tmp_path: Path) -> None:
    """As keremberke/chest-xray-classification, of which `mini` is a part of `full`."""
    columns = {"labels": data.STRING}
    copies = {f"{config}/{split}/0000.parquet": _file(columns, ["mass"] * count, start=start)
              for config, split, count, start in (("full", "train", 4, 0), ("full", "validation", 2, 9),
                                                  ("mini", "train", 1, 0))}  # fmt: skip
    sha, copy = _script(hub, "script", copies)
    label_map = data.label_map(tmp_path, **data.LIST)
    copied = rf"--set hub:chex/script@{copy}:full, or one of mini after the colon"
    with pytest.raises(UsageError, match=rf"consists of a script, which is not run; name the Hub's copy .*{copied}"):
        data.read("chex/script", sha, label_map)
    assert len(data.read("chex/script", f"{copy}:mini", label_map).entries) == 1
    full = data.read("chex/script", f"{copy}:full", label_map)
    assert sorted((full.splits or {}).values()) == ["train"] * 4 + ["validation"] * 2
    with pytest.raises(UsageError, match="name one of its configurations after a colon: full, mini"):
        data.read("chex/script", copy, label_map)
    with pytest.raises(UsageError, match="name one of its configurations after a colon: "):
        data.read("chex/script", f"{copy}:tiny", label_map)


def test_a_copy_of_the_first_rows_is_refused(hub: CountingHub, tmp_path: Path) -> None:
    """As of alkzar90/NIH-Chest-X-ray-dataset, which has 42 GB."""
    sha, copy = _script(
        hub, "large", {"default/partial-train/0000.parquet": _file({"labels": data.STRING}, ["mass"])}
    )
    label_map = data.label_map(tmp_path, **data.LIST)
    with pytest.raises(UsageError, match=rf"is not run; download it with: hf download chex/large .*{sha}"):
        data.read("chex/large", sha, label_map)
    for name in (copy, f"{copy}:default"):
        with pytest.raises(UsageError, match="only the first rows of split train, since the Hub copies 5 GB"):
            data.read("chex/large", name, label_map)


def test_several_configurations(hub: CountingHub, tmp_path: Path) -> None:
    card = "---\nconfigs:\n" + "".join(
        f"- config_name: {name}\n  data_files:\n  - split: val\n    path: {name}.parquet\n" for name in ("a", "b")
    )
    files = {
        f"{name}.parquet": _file({"labels": data.STRING}, ["mass"] * count) for name, count in (("a", 2), ("b", 3))
    }
    sha = data.push("chex/configs", files | {"README.md": f"{card}---\n".encode()})
    label_map = data.label_map(tmp_path, **data.LIST)
    with pytest.raises(UsageError, match="name one of its configurations after a colon: "):
        read_hub(Reading(f"hub:chex/configs@{sha}", label_map=label_map))
    assert len(data.read("chex/configs", f"{sha}:b", label_map).entries) == 3
