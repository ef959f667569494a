"""Which images are named by files, folders, patterns, archives and lists."""

from __future__ import annotations

import io
import os
import tarfile
import zipfile
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest

from chexvision.errors import ChexError, UsageError
from chexvision.predict.answer import Failure, ModelFacts
from chexvision.predict.inputs import Source, find_sources, read_sources, sha256_of_sources
from chexvision.predict.predictor import Predictor
from chexvision.predict.result import results_of


def named(words: list[str], lines: Iterable[str] = ()) -> list[str]:
    return [source.path for source in find_sources(words, lines)]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    for name in ("b.png", "a.PNG", "sub/c.jpg", "sub/d.dcm", "notes.txt", ".hidden.png"):
        path = tmp_path / "in" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(name.encode())
    return tmp_path


@pytest.mark.usefixtures("folder")
def test_a_folder_is_searched_with_all_below_and_sorted() -> None:
    assert named(["in"]) == ["in/a.PNG", "in/b.png", "in/sub/c.jpg", "in/sub/d.dcm"]


@pytest.mark.usefixtures("folder")
def test_a_quoted_pattern_names_what_it_matches() -> None:
    assert named(["in/*.p*"]) == ["in/b.png"]
    assert named(["in/**/*.jpg"]) == ["in/sub/c.jpg"]
    with pytest.raises(UsageError, match=r"in/\*\.bmp: no file has such a name"):
        named(["in/*.bmp"])


def test_a_file_whose_name_looks_like_a_pattern_is_a_file(folder: Path) -> None:
    (folder / "a[1].png").write_bytes(b"")
    assert named(["a[1].png"]) == ["a[1].png"]


@pytest.mark.usefixtures("folder")
def test_an_image_that_is_named_twice_is_predicted_once_where_it_came_first() -> None:
    assert named(["in/b.png", "in", "./in/../in/b.png"]) == ["in/b.png", "in/a.PNG", "in/sub/c.jpg", "in/sub/d.dcm"]


@pytest.mark.usefixtures("folder")
def test_a_dash_reads_names_from_the_lines_of_stdin() -> None:
    assert named(["-"], io.StringIO("in/b.png\n\nin/sub\n")) == ["in/b.png", "in/sub/c.jpg", "in/sub/d.dcm"]


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("", "an empty name"),
        ("none.png", "none.png: No such file or directory"),
        ("empty", "empty contains no PNG, JPEG or DICOM file"),
    ],
)
def test_a_name_of_nothing_is_refused(folder: Path, word: str, message: str) -> None:
    (folder / "empty").mkdir()
    with pytest.raises(UsageError, match=message):
        named([word])


def test_members_of_archives_are_read_from_them_and_their_names_are_only_shown(folder: Path) -> None:
    members = {"x/b.png": b"1", "../../evil.png": b"2", "/etc/c.png": b"3", "text.txt": b"4"}
    with zipfile.ZipFile(folder / "in" / "all.zip", "w") as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    before = sorted(folder.rglob("*"))
    sources = [source for source in find_sources(["in"], ()) if source.path.startswith("in/all.zip")]
    assert [source.name for source in sources] == ["b.png", "c.png", "evil.png"]
    assert [read() for _, read in read_sources(sources)] == [b"1", b"3", b"2"]
    assert sorted(folder.rglob("*")) == before


def test_a_damaged_archive_is_one_image_that_cannot_be_read(folder: Path) -> None:
    (folder / "in" / "bad.zip").write_bytes(b"PK\x03\x04 cut")
    sources = find_sources(["in"], ())
    assert [source.path for source in sources][:3] == ["in/a.PNG", "in/b.png", "in/bad.zip"]
    reads = dict(read_sources(sources))
    assert reads["b.png"]() == b"b.png"
    with pytest.raises(ValueError, match="is damaged"):
        reads["bad.zip"]()


def test_the_identity_of_images_follows_names_and_changes(folder: Path) -> None:
    def now() -> str:
        return sha256_of_sources(find_sources(["in"], ()))

    first = now()
    assert now() == first
    os.utime(folder / "in" / "b.png", ns=(0, 0))
    changed = now()
    assert changed != first
    (folder / "in" / "e.png").write_bytes(b"")
    assert now() != changed


def test_a_link_to_nothing_is_an_image_that_cannot_be_read(folder: Path) -> None:
    (folder / "in" / "z.png").symlink_to("nowhere")
    (source,) = find_sources(["in/z.png"], ())
    assert isinstance(source, Source)
    with pytest.raises(OSError, match="No such file"):
        next(read_sources([source]))[1]()


class Reading:
    """Stands for a predictor: says what an image's file holds."""

    facts = ModelFacts("model")
    engine = SimpleNamespace(name="none")

    def answers(self, images: Iterable[tuple[str, Callable[[], bytes]]], *, any_view: bool) -> Iterator[Failure]:
        yield from (Failure(name, load().decode()) for name, load in images)


def test_an_archive_that_is_replaced_meanwhile_gives_no_rows_of_other_images(folder: Path) -> None:
    def write(*names: str) -> None:
        with tarfile.open(folder / "all.tar", "w") as archive:
            for name in names:
                archive.add(folder / "in" / name, name)

    write("b.png", "a.PNG")
    sources = find_sources(["all.tar"], ())
    write("a.PNG", "b.png")
    rows = results_of(cast("Predictor", Reading()), sources)
    with pytest.raises(ChexError, match=r"all\.tar/b\.png is not where it was"):
        print(list(rows))
