"""What holds for the shards of every release."""

from __future__ import annotations

import gzip
import re
import shutil

import pytest

from chexvision.errors import UsageError
from chexvision.releases.sets import SETS, set_of
from chexvision.shards.verify import verify_shards
from tests.present import present
from tests.releases.conftest import IMAGES, Get, manifest_of

NAMES = ("chexpert", "mimic", "mimic-dicom", "padchest")


def laterals(name: str) -> int:
    """How many images are lateral; CheXpert calls one of them frontal."""
    return IMAGES // 4 - (name == "chexpert")


@pytest.mark.parametrize("name", NAMES)
def test_a_release_becomes_valid_shards_without_laterals(name: str, release: Get) -> None:
    on_disk = release(name)
    assert on_disk.build() == 0
    manifest = manifest_of(on_disk)
    assert all(check.ok for check in verify_shards(on_disk.root / "out", sample=0, seed=0, workers=1))
    assert manifest.bad == ()
    reasons = {one.reason: one.images for one in manifest.left_out}
    assert reasons["lateral view; --views all keeps them"] == laterals(name)
    assert reasons["neither a frontal nor a lateral view"] >= 1
    assert manifest.images + sum(reasons.values()) == IMAGES
    dataset = present(manifest.dataset)
    assert (dataset.name, dataset.views, dataset.studies) == (name.removesuffix("-dicom"), "frontal", True)
    assert dataset.terms == SETS[dataset.name].terms
    assert {row["view"] for row in on_disk.rows().values()} == {"PA", "AP"}
    assert len({(row["patient_id"], row["study_id"]) for row in on_disk.rows().values()}) == manifest.images


@pytest.mark.parametrize("name", NAMES)
def test_all_views_keeps_laterals(name: str, release: Get) -> None:
    on_disk = release(name)
    assert on_disk.build("--views", "all") == 0
    views = [row["view"] for row in on_disk.rows().values()]
    assert views.count("L") == laterals(name)
    assert present(manifest_of(on_disk).dataset).views == "all"
    studies = [(row["patient_id"], row["study_id"]) for row in on_disk.rows().values()]
    assert len(set(studies)) < len(studies)  # a lateral has the study of its frontal image


@pytest.mark.parametrize("name", ["mimic-dicom", "padchest"])
def test_equal_input_gives_equal_bytes_for_any_number_of_workers(name: str, release: Get) -> None:
    on_disk = release(name)
    found = []
    for workers in ("1", "3"):
        assert on_disk.build("--workers", workers) == 0
        found.append({path.name: path.read_bytes() for path in (on_disk.root / "out").rglob("*") if path.is_file()})
        shutil.rmtree(on_disk.root / "out")
    assert found[0] == found[1]


@pytest.mark.parametrize("name", NAMES)
def test_a_folder_above_or_below_the_root_is_enough(name: str, release: Get) -> None:
    on_disk = release(name)
    assert on_disk.build(images=on_disk.root) == 0
    rows = on_disk.rows()
    shutil.rmtree(on_disk.root / "out")
    if name.startswith("mimic"):
        assert on_disk.build(images=on_disk.images / "files" / "p10") == 0
        assert on_disk.rows() == rows


@pytest.mark.parametrize("name", ["chexpert", "mimic", "padchest"])
def test_byte_order_marks_and_line_ends_of_windows_change_nothing(name: str, release: Get) -> None:
    on_disk = release(name)
    assert on_disk.build() == 0
    rows = on_disk.rows()
    shutil.rmtree(on_disk.root / "out")
    for path in (path for path in on_disk.tables.iterdir() if ".csv" in path.name):
        data = path.read_bytes()
        packed = data[:2] == b"\x1f\x8b"
        changed = b"\xef\xbb\xbf" + (gzip.decompress(data) if packed else data).replace(b"\n", b"\r\n")
        path.write_bytes(gzip.compress(changed) if packed else changed)
    assert on_disk.build() == 0
    assert on_disk.rows() == rows


def test_files_that_no_table_names_are_counted(release: Get) -> None:
    on_disk = release("chexpert")
    shutil.copy(on_disk.image("frontal"), on_disk.tables / "note.jpg")
    assert on_disk.build() == 0
    assert ("in none of the tables", 1) in [(one.reason, one.images) for one in manifest_of(on_disk).left_out]


def test_a_second_copy_of_an_image_is_bad(release: Get, capsys: pytest.CaptureFixture[str]) -> None:
    on_disk = release("mimic")
    image = on_disk.image(".jpg")
    copied = on_disk.images / "small" / image.name
    copied.parent.mkdir()
    shutil.copy(image, copied)
    assert on_disk.build("--max-bad", "0.5") == 0
    said = capsys.readouterr().err
    assert f"left out {image.name}: a second file of this name: small/" in said or "of this name: files/" in said


def test_sets_are_named_in_the_message_of_an_unknown_one() -> None:
    with pytest.raises(UsageError, match=r"--set 'chexbert' is none of nih, .*chexpert.*csv"):
        set_of("chexbert")
    with pytest.raises(UsageError, match="is none of"):
        set_of("chexpert:USER/NAME")


def test_terms_of_sets_are_complete() -> None:
    for name, one in SETS.items():
        if one.terms is not None:
            assert one.terms.license_link.startswith("https://") and one.terms.homepage.startswith("https://"), name
            assert (one.terms.license == "other") == (one.terms.license_name is not None), name
            assert re.search(r"\d{4}", one.terms.citation), name
    assert {name for name in ("chexpert", "mimic", "padchest") if present(SETS[name].terms).credentialed} == {
        "chexpert", "mimic", "padchest",
    }  # fmt: skip


def test_no_path_of_this_machine_is_in_the_shards(release: Get) -> None:
    on_disk = release("chexpert")
    on_disk.image("train/patient00001").unlink()
    assert on_disk.build("--max-bad", "0.5") == 0
    (bad,) = manifest_of(on_disk).bad
    assert bad.reason == "not found (train.csv, line 2)"
    folder = str(on_disk.root).encode()
    assert not any(folder in path.read_bytes() for path in (on_disk.root / "out").rglob("*") if path.is_file())


def test_only_images_that_are_used_count_as_duplicates(release: Get) -> None:
    on_disk = release("chexpert")
    shutil.copytree(on_disk.images, on_disk.root / "again", ignore=shutil.ignore_patterns("*.csv"))
    assert on_disk.build("--images", str(on_disk.root / "again"), "--max-bad", "1") == 0
    bad = manifest_of(on_disk).bad
    assert len(bad) == IMAGES - IMAGES // 4 and not any("lateral" in image.name for image in bad)


@pytest.mark.parametrize(("name", "table"), [("chexpert", "train"), ("mimic", "-chexpert"), ("padchest", "PADCHEST")])
def test_a_table_that_was_cut_off_is_refused(
    name: str, table: str, release: Get, capsys: pytest.CaptureFixture[str]
) -> None:
    on_disk = release(name)
    text = on_disk.text(table).rstrip("\n")
    on_disk.write(table, text[: text.rindex(",")])
    assert on_disk.build() == 2
    assert "columns; fetch the file again" in capsys.readouterr().err
