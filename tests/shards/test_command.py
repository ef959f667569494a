"""`chexvision shards …` on the command line: exit codes, one-line messages, and remaining files."""

from __future__ import annotations

import json
import os
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from chexvision.cli import main
from chexvision.cli.data.shard_options import parse_bytes
from chexvision.errors import UsageError
from tests.shards.conftest import Release

COMMAND = [sys.executable, "-m", "chexvision", "shards"]


def run(*words: object) -> int:
    with pytest.raises(SystemExit) as ended:
        main(["shards", *map(str, words)])
    return int(ended.value.code or 0)


def siblings(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_build_prints_a_table_and_verify_agrees(
    release: Release, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "shards"
    words = ("--images", release.root, "--metadata", release.metadata, "--out", out, "--size", 32)
    assert run("build", *words) == 0
    shown = capsys.readouterr().out.splitlines()
    assert shown[0].split() == ["split", "images", "patients", "shards", "bytes/image", "bad", "images"]
    assert shown[1].split()[:4] == ["train", "28", "14", "1"]
    assert shown[4].split()[:4] == ["all", "40", "20", "3"]
    assert run("verify", out) == 0
    assert all(line.startswith("ok ") for line in capsys.readouterr().out.splitlines())
    next((out / "data").glob("test-*")).unlink()
    assert run("verify", out) == 1
    said = capsys.readouterr()
    assert "failed  files present: data/test-00000-of-00001.parquet is missing" in said.out
    assert said.err.startswith(f"error: {out} failed 2 checks: files present, counts")


def test_synthesized_shards_verify(tmp_path: Path) -> None:
    assert run("synthesize", "--out", tmp_path / "synthetic", "--images", 12, "--seed", 1, "--size", 48) == 0
    assert run("verify", tmp_path / "synthetic") == 0


def test_invalid_input_is_a_one_line_error_and_leaves_nothing(
    release: Release, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    release.put(release.names[3], b"broken")
    wrong = tmp_path / "wrong.csv"
    wrong.write_text("Image,Labels\na.png,Mass\n")
    (tmp_path / "empty").mkdir()
    good: dict[str, object] = {
        "--images": release.root,
        "--metadata": release.metadata,
        "--out": tmp_path / "out",
        "--size": 32,
    }
    before = siblings(tmp_path)
    cases: list[tuple[dict[str, object], int, str]] = [
        ({}, 1, f"{release.names[3]}: not a readable PNG, JPEG or DICOM file"),
        ({"--metadata": wrong}, 2, "no column 'Image Index'"),
        ({"--metadata": tmp_path / "none.csv"}, 2, "there is no file"),
        ({"--images": tmp_path / "none"}, 2, "does not exist"),
        ({"--images": tmp_path / "empty"}, 2, "no PNG, JPEG or DICOM file in"),
        ({"--images": wrong}, 2, "is neither a folder nor one of"),
        ({"--split": "officially"}, 2, "is neither 'official' nor 'patient' nor a file"),
        ({"--shard-size": "big"}, 2, "'big' is not a size"),
    ]
    for change, code, message in cases:
        assert run("build", *[word for pair in (good | change).items() for word in pair]) == code, message
        said = capsys.readouterr().err.splitlines()
        assert len(said) == 1 and said[0].startswith("error: ") and message in said[0]
        assert siblings(tmp_path) == before


def test_left_out_images_are_named(release: Release, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    release.put(release.names[3], b"broken")
    words = ("--images", release.root, "--metadata", release.metadata, "--out", tmp_path / "out", "--size", 32)
    assert run("build", *words, "--max-bad", 0.1) == 0
    said = capsys.readouterr()
    assert said.err == f"left out {release.names[3]}: not a readable PNG, JPEG or DICOM file\n"
    assert said.out.splitlines()[4].split()[-1] == "1"


def test_impossible_ages_are_counted(release: Release, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The 2017 edition pads years and has ages up to 414: of 020Y to 059Y the first two become impossible."""
    text = release.metadata.read_text().replace(",020Y,", ",411Y,").replace(",021Y,", ",unknown,")
    release.metadata.write_text(text)
    words = ("--images", release.root, "--metadata", release.metadata, "--out", tmp_path / "out", "--size", 32)
    assert run("build", *words) == 0
    first = release.names[0]
    assert f"impossible ages: 2, stored as null; the first is 411Y of {first}\n" in capsys.readouterr().out
    assert "2 images have an impossible age" in (tmp_path / "out" / "README.md").read_text()
    assert run("info", tmp_path / "out", "--json") == 0
    ages = [split["ages"] for split in json.loads(capsys.readouterr().out)["splits"].values()]
    assert sum(of["known"] for of in ages) == 38 and max(of["maximum"] for of in ages) == 59


@pytest.mark.parametrize(
    ("text", "size"), [("256MB", 256 * 10**6), ("1.5 GiB", 3 << 29), ("7", 7), ("10kb", 10_000), (" 2MiB ", 2 << 20)]
)
def test_sizes_are_read(text: str, size: int) -> None:
    assert parse_bytes(text) == size


@pytest.mark.parametrize("text", ["", "MB", "-1MB", "1TB!", "nan", "inf", "0"])
def test_invalid_sizes_are_refused(text: str) -> None:
    with pytest.raises(UsageError, match="is not a size"):
        parse_bytes(text)


def test_a_full_disk_is_a_one_line_error_and_leaves_nothing(tmp_path: Path) -> None:
    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))

    words = [*COMMAND, "synthesize", "--out", str(tmp_path / "out"), "--images", "60", "--size", "128"]
    done = subprocess.run(words, capture_output=True, text=True, timeout=300, preexec_fn=limit, check=False)
    assert done.returncode == 1
    assert done.stderr.splitlines() == [
        f"error: the disk of {tmp_path} is full; free some space or choose another --out"
    ]
    assert siblings(tmp_path) == []


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_an_interrupted_run_leaves_nothing(tmp_path: Path, number: signal.Signals, code: int) -> None:
    words = [*COMMAND, "synthesize", "--out", str(tmp_path / "out"), "--images", "100000", "--size", "64"]
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            _wait_for_a_shard(tmp_path, process)
            process.send_signal(number)
            _, said = process.communicate(timeout=300)
        finally:
            process.kill()
    assert process.returncode == code
    assert "Traceback" not in said
    assert siblings(tmp_path) == []


def test_leftovers_of_a_killed_build_are_removed_by_the_next(tmp_path: Path) -> None:
    words = [*COMMAND, "synthesize", "--out", str(tmp_path / "out"), "--images", "100000", "--size", "64"]
    with subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        try:
            _wait_for_a_shard(tmp_path, process)
        finally:
            process.kill()
    assert siblings(tmp_path) == [".out.lock", ".out.partial"]
    assert run("synthesize", "--out", tmp_path / "out", "--images", 12, "--size", 48) == 0
    assert siblings(tmp_path) == ["out"]


def test_a_running_build_is_not_disturbed_by_another(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = [*COMMAND, "synthesize", "--out", str(tmp_path / "out"), "--images", "100000", "--size", "64"]
    with subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        try:
            _wait_for_a_shard(tmp_path, process)
            assert run("synthesize", "--out", tmp_path / "out", "--images", 12, "--size", 48) == 1
            assert f"{tmp_path / 'out'} is being made by another command" in capsys.readouterr().err
            assert any(os.path.getsize(path) for path in tmp_path.glob(".out.partial/.*.partial"))  # noqa: PTH202
            assert process.poll() is None
        finally:
            process.kill()


def test_a_data_set_is_restored_if_the_build_was_killed_while_replacing_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Killed between the two renames: the old data set is moved away, the new one is not in place."""
    words = ("synthesize", "--out", tmp_path / "out", "--images", 12, "--size", 48)
    assert run(*words) == 0
    (tmp_path / "out").rename(tmp_path / ".out.old")
    assert run(*words) == 2
    assert "already holds shards; add --overwrite" in capsys.readouterr().err
    assert run("verify", tmp_path / "out") == 0
    assert run(*words, "--overwrite") == 0
    assert siblings(tmp_path) == ["out"]


def _wait_for_a_shard(folder: Path, process: subprocess.Popen[Any]) -> None:
    deadline = time.monotonic() + 300
    while not any(os.path.getsize(path) for path in folder.glob(".out.partial/.*.partial")):  # noqa: PTH202
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.02)
