"""The packaged facts of the release: the published counts, and the public lists."""

from __future__ import annotations

import csv
import gzip
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from chexvision.errors import ChexError
from chexvision.metrics.predictions import images_sha256
from chexvision.nih import patients as module
from chexvision.nih.patients import PATIENTS, pack, release
from chexvision.shards.split import VALIDATION_SHARE, official_split


def rows(path: Path) -> Iterator[dict[str, str]]:
    with gzip.open(path, "rt", newline="") as file:
        yield from csv.DictReader(file)


def test_the_public_splits_have_the_published_counts() -> None:
    known = release()
    assert (len(known.images), sum(known.images)) == (30_805, 112_120)
    official = {patient: "test" if patient in known.official_test else "train" for patient in range(1, PATIENTS + 1)}
    assert known.count(official) == {"train": 86_524, "validation": 0, "test": 25_596}
    assert Counter(official.values()) == {"train": 28_008, "test": 2_797}
    assert known.count(known.chexnet) == {"train": 78_468, "validation": 11_219, "test": 22_433}
    assert set(known.chexnet) == set(range(1, PATIENTS + 1))


def test_test_images_match_those_of_published_results() -> None:
    known = release()
    official = images_sha256(known.filenames(known.official_test))
    assert official == "3d0c44b68d287fd04f90c4f25df13428bba7b3e729f65715d5cf73a88e83d226"
    public = images_sha256(known.filenames([patient for patient, name in known.chexnet.items() if name == "test"]))
    assert public == "bbe3774c320aeb699e89ffd8a7d9f4ce7d230b1c16f4c4b7e9a2862383b17ec2"


def test_packaged_lists_match_the_release_and_the_public_lists(real_data: Path) -> None:
    names = [row["Image Index"] for row in rows(real_data / "Data_Entry_2017_v2020.csv.gz")]
    known = release()
    assert sorted(names) == list(known.filenames(range(1, PATIENTS + 1)))
    test = {
        int(row["patient_id"]) for row in rows(real_data / "official_patient_lists.csv.gz") if row["list"] == "test"
    }
    public = {int(row["patient_id"]): row["split"] for row in rows(real_data / "chexnet_patient_split.csv.gz")}
    public = {patient: "validation" if name == "val" else name for patient, name in public.items()}
    assert pack(Counter(int(name[:8]) for name in names), test, public) == known.images + known.flags


@pytest.mark.parametrize(
    ("name", "known"),
    [
        ("00000001_000.png", True),
        ("00000001_002.jpg", True),
        ("00000001_003.png", False),  # patient 1 has three images
        ("00030805_000.png", True),
        ("00030806_000.png", False),
        ("00000000_000.png", False),
        ("1_000.png", False),
        ("00000001_000", False),
        ("x/00000001_000.png", False),
        ("٠٠٠٠٠٠٠١_000.png", False),
    ],
)
def test_release_recognizes_its_images(name: str, known: bool) -> None:
    assert release().has_image(name) is known


def test_the_official_split_does_not_change() -> None:
    split = official_split()
    validation = [patient for patient, name in split.items() if name == "validation"]
    assert {patient for patient, name in split.items() if name == "test"} == release().official_test
    assert len(validation) == round(VALIDATION_SHARE * 28_008) == 1_400
    # Must never change: results are compared across versions.
    assert validation[:5] == [37, 52, 62, 74, 173]
    more = official_split(0.1)
    assert {patient for patient, name in more.items() if name == "validation"} > set(validation)
    assert release().count(split) == {"train": 82_346, "validation": 4_178, "test": 25_596}


@pytest.mark.parametrize("content", [b"", b"nothing", "altered"])
def test_a_damaged_package_is_a_one_line_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: bytes | str
) -> None:
    import lzma

    data = lzma.compress(b"x" * 2 * PATIENTS) if isinstance(content, str) else content
    (tmp_path / "release.xz").write_bytes(data)
    monkeypatch.setattr(module, "__file__", str(tmp_path / "release.py"))
    with pytest.raises(ChexError, match="reinstall chexvision"):
        release.__wrapped__()
