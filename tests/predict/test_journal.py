"""Results that are written while they are computed survive whatever ends the process."""

from __future__ import annotations

import json
import resource
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from chexvision.errors import ChexError, UsageError
from chexvision.predict.answer import Failure, ModelFacts
from chexvision.predict.journal import About, Journal, make_tasks_folder, open_journal
from chexvision.predict.predictor import BATCH
from chexvision.predict.result import Result, result_of
from chexvision.predict.result_files import ROWS_OF_A_GROUP, remove_leftovers, write_results
from tests.predict.conftest import Run
from tests.predict.tiny_model import publish

DEADLINE_S = 300
FACTS = ModelFacts("m")


def result(number: int) -> Result:
    return result_of(Failure(f"{number}.png", "bad"), f"in/{number}.png", FACTS, "torch", strict=False)


def about(images: int) -> About:
    return About(
        model=FACTS, model_files="0", engine="torch", outputs=("Mass", "Abnormal"), options=(), images=images,
        images_sha256="0",
    )  # fmt: skip


def write(out: Path, images: int, *, until: int | None = None) -> list[str]:
    """Begin or continue; the images that were written by this call."""
    written: list[str] = []
    with open_journal(out, about(images)) as journal:
        for number in range(journal.done, images if until is None else until):
            journal.add(result(number))
            written.append(f"{number}.png")
        if until is None:
            journal.finish()
    return written


def interrupted(_: Journal) -> None:
    raise KeyboardInterrupt


@contextmanager
def full_disk(size: int) -> Iterator[None]:
    """No file can grow beyond `size` bytes."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_killed_command_goes_on_and_its_file_is_that_of_one_that_was_not(
    model: Path, images: Path, tmp_path: Path, run: Run
) -> None:
    out, partial = tmp_path / "r.csv", tmp_path / "r.csv.partial"
    words = ["predict", str(model), str(images), "--out", str(out)]
    command = [sys.executable, "-m", "tests.predict.killed_command", str(2 * BATCH + 3), *words]
    process = subprocess.run(command, stderr=subprocess.DEVNULL, timeout=DEADLINE_S, check=False)
    assert process.returncode == -signal.SIGKILL
    assert partial.exists() and not out.exists()
    with partial.open("ab") as file:
        file.write(b'{"image": "cut')  # as if it had been killed while writing

    code, _, error = run(*words)
    assert code == 1
    assert "note: going on after " in error
    assert not partial.exists()
    uncut = tmp_path / "uncut.csv"
    assert run(*words[:-1], uncut)[0] == 1
    assert out.read_bytes() == uncut.read_bytes()


@pytest.mark.parametrize("ending", ["csv", "jsonl", "parquet"])
def test_the_file_of_a_command_that_was_cut_is_that_of_one_that_was_not(tmp_path: Path, ending: str) -> None:
    for name, cuts in (("cut", (0, 5, 2 * BATCH + 3, 40)), ("uncut", ())):
        for until in cuts:
            write(tmp_path / f"{name}.{ending}", 50, until=until)
        write(tmp_path / f"{name}.{ending}", 50)
    assert (tmp_path / f"cut.{ending}").read_bytes() == (tmp_path / f"uncut.{ending}").read_bytes()


def test_what_is_there_is_not_computed_again(tmp_path: Path) -> None:
    out = tmp_path / "r.jsonl"
    write(out, 50, until=2 * BATCH + 3)
    # From the beginning of a batch, so that batches hold the same images.
    assert write(out, 50) == [f"{number}.png" for number in range(2 * BATCH, 50)]
    assert [json.loads(line)["image"] for line in out.read_text().splitlines()] == [f"{i}.png" for i in range(50)]


def test_a_command_that_was_cut_before_its_end_writes_the_complete_file(tmp_path: Path) -> None:
    out = tmp_path / "r.jsonl"
    write(out, 20, until=20)
    (tmp_path / ".r.jsonl.123.partial").write_text("half a file")
    assert write(out, 20) == []
    assert len(out.read_text().splitlines()) == 20
    assert [path.name for path in tmp_path.iterdir()] == ["r.jsonl"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model_files": "1"}, "was begun with another model"),
        ({"options": ("--strict",)}, "was begun with other options"),
        ({"engine": "onnxruntime"}, "was begun with another engine"),
        ({"images": 19}, "was begun for other images"),
        ({"images_sha256": "1"}, "was begun for other images, or an image has changed since"),
    ],
)
def test_results_of_another_command_are_not_continued(
    tmp_path: Path, changes: dict[str, object], message: str
) -> None:
    out = tmp_path / "r.csv"
    write(out, 20, until=18)
    before = (tmp_path / "r.csv.partial").read_bytes()
    with pytest.raises(UsageError, match=message), open_journal(out, about(20).model_copy(update=changes)):
        pass
    assert (tmp_path / "r.csv.partial").read_bytes() == before


def test_other_models_options_and_images_are_refused_by_the_command(
    model: Path, images: Path, tmp_path: Path, run: Run
) -> None:
    out, partial = tmp_path / "r.csv", tmp_path / "r.csv.partial"
    words = ["predict", model, images / "0", "--out", out]
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(Journal, "finish", interrupted)
        assert run(*words)[0] != 0
    head = partial.read_bytes()
    other = publish(tmp_path / "other", seed=1)
    changed = shutil.copytree(images / "0", tmp_path / "changed")
    for command in ([*words, "--strict"], ["predict", other, *words[2:]], ["predict", model, changed, *words[3:]]):
        code, _, error = run(*command)
        assert code == 2 and error.splitlines()[-1].startswith(f"error: {partial} was begun ")
        assert partial.read_bytes() == head
    assert run(*words)[0] == 0


def test_something_else_in_place_of_unfinished_results_is_refused(tmp_path: Path) -> None:
    (tmp_path / "r.csv.partial").write_text("mine\n")
    with pytest.raises(UsageError, match="does not hold results that can be continued"):
        write(tmp_path / "r.csv", 3)
    assert (tmp_path / "r.csv.partial").read_text() == "mine\n"


def test_two_commands_do_not_write_one_file(tmp_path: Path) -> None:
    out = tmp_path / "r.csv"
    with (
        open_journal(out, about(3)),
        pytest.raises(ChexError, match="is being written by another command"),
        open_journal(out, about(3)),
    ):
        pass


def test_a_full_disk_leaves_no_half_file_and_the_same_command_goes_on(tmp_path: Path) -> None:
    out = tmp_path / "r.csv"
    with (
        pytest.raises(ChexError, match=r"r\.csv\.partial cannot be written .*goes on after \d+ of 100 images"),
        full_disk(10_000),
    ):
        write(out, 100)
    assert not out.exists()
    write(out, 100, until=100)
    with (
        pytest.raises(ChexError, match=r"r\.csv cannot be written .*its rows are kept in r\.csv\.partial"),
        full_disk(5_000),
    ):
        write(out, 100)
    assert [path.name for path in tmp_path.iterdir()] == ["r.csv.partial"]
    assert write(out, 100) == []
    assert len(out.read_text().splitlines()) == 101


def test_a_parquet_file_has_groups_of_rows(tmp_path: Path) -> None:
    import pyarrow.parquet as pq

    out = tmp_path / "r.parquet"
    write(out, 2 * ROWS_OF_A_GROUP + 1)
    opened = pq.ParquetFile(out)
    sizes = [opened.metadata.row_group(i).num_rows for i in range(opened.metadata.num_row_groups)]
    assert sizes == [ROWS_OF_A_GROUP, ROWS_OF_A_GROUP, 1]
    assert opened.read(["image"])["image"].to_pylist() == [f"{i}.png" for i in range(2 * ROWS_OF_A_GROUP + 1)]


def test_what_another_command_is_writing_is_no_leftover(tmp_path: Path) -> None:
    other, own = tmp_path / ".results.csv.12.partial", tmp_path / ".results.13.partial"
    other.touch()
    own.mkdir()
    remove_leftovers(tmp_path / "results")
    assert other.exists() and not own.exists()


def test_a_folder_of_results_is_replaced_and_one_of_other_files_is_not(tmp_path: Path) -> None:
    out = tmp_path / "results"
    for numbers in (range(1), range(2)):
        write_results(out, ("Mass",), map(result, numbers))
    assert [path.name for path in out.iterdir()] == ["part-00000.parquet"]
    (out / "mine.txt").touch()
    with pytest.raises(OSError, match="not empty"):
        write_results(out, ("Mass",), map(result, range(1)))
    assert (out / "mine.txt").exists()


def test_the_folder_of_tasks_is_not_one_of_somebody_else(tmp_path: Path) -> None:
    folder = make_tasks_folder(tmp_path / "r.parquet")
    for name in (f"00000001-{'a' * 32}.jsonl", f"{'b' * 40}.npz", f".{'b' * 40}.npz.7.partial"):
        (folder / name).touch()
    assert make_tasks_folder(tmp_path / "r.parquet") == folder
    (folder / "notes.txt").write_text("mine")
    with pytest.raises(UsageError, match=r"tasks has files that are not results of tasks, such as notes\.txt"):
        make_tasks_folder(tmp_path / "r.parquet")
