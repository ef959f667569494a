"""`chexvision sweep --on local`: runs follow each other, survive the command's end, fail alone, and are reported."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from chexvision_dispatch import run_records as records
from chexvision_dispatch.studies.study_state import StateFile, state_path
from tests.dispatch.standin import Cli, raised

pytestmark = pytest.mark.usefixtures("packs_stand_in")


@pytest.fixture
def words(shards: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    monkeypatch.setattr("chexvision_dispatch.runs.POLL_S", 0.05)
    Path("mine.yaml").write_text("{recipe: densenet, variants: {focal: {loss.name: focal}, same: densenet}}")
    return ["sweep", "mine.yaml", "--on", "local", "--data", str(shards)]


def sessions() -> dict[str, int]:
    """How many sessions each run had, by the changes of its recipe."""
    return {" ".join(record.overrides): len(record.sessions) for record in records.every(raised)}


def test_variants_run_one_after_the_other_and_are_not_sent_again(cli: Cli, words: list[str]) -> None:
    done = cli(*words)
    assert done.code == 0, done.err
    assert sessions() == {"": 1, 'loss.name="focal"': 1}
    assert "study mine: 2 waiting" in done.err
    again = cli(*words)
    assert again.code == 0, again.err
    assert "study mine: 2 complete" in again.err
    assert sessions() == {"": 1, 'loss.name="focal"': 1}
    report = json.loads(Path("runs/mine/study.json").read_text())
    assert [variant["name"] for variant in report["variants"]] == ["base", "focal", "same"]
    assert report["variants"][2]["members"][0]["run_id"] == report["variants"][0]["members"][0]["run_id"]


def test_failed_variant_leaves_the_others_alone_and_is_retried_on_request(cli: Cli, words: list[str]) -> None:
    Path("mine.yaml").write_text("{recipe: densenet, variants: {bad: {training.seed: 7}}}")
    failed = cli(*words)
    assert failed.code == 1
    assert "study mine: 1 complete, 1 failed; the same command with --retry-failed" in failed.err
    assert "bad: failed: exit code 7" in failed.out
    again = cli(*words)
    assert (again.code, len(sessions()), sum(sessions().values())) == (1, 2, 2)
    (record,) = [one for one in records.every(raised) if one.overrides == ("training.seed=7",)]
    retried = cli(*words, "--retry-failed")
    assert retried.code == 1
    state = StateFile(state_path("mine")).state
    assert state.replaced == (record.run_id,)
    assert len(records.every(raised)) == 3


def test_killed_command_leaves_its_run_alone_and_continues_with_it(
    checkout: Path, cli: Cli, words: list[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("STANDIN_EPOCHS", "2")
    monkeypatch.setenv("STANDIN_GATE", str(tmp_path))
    start = "import sys; from chexvision.cli import main; main(sys.argv[1:])"
    paths = os.pathsep.join([str(checkout / "src"), str(checkout / "dispatch")])
    process = subprocess.Popen(
        [sys.executable, "-u", "-c", start, *words],
        env={**os.environ, "PYTHONPATH": paths},
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stderr is not None
    while "base: session 1 of" not in (line := process.stderr.readline()):
        assert line, process.communicate()
    process.send_signal(signal.SIGKILL)
    process.communicate(timeout=300)
    assert sessions() == {"": 1}
    (tmp_path / "1").touch()
    (tmp_path / "2").touch()
    done = cli(*words)
    assert done.code == 0, done.err
    assert sessions() == {"": 1, 'loss.name="focal"': 1}
    assert [record.sessions[-1].outcome for record in records.every(raised)] == ["complete", "complete"]


def test_run_that_was_stopped_is_resumed_by_the_next_command(
    cli: Cli, words: list[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("STANDIN_EPOCHS", "2")
    monkeypatch.setenv("STANDIN_GATE", str(tmp_path))
    (tmp_path / "1").touch()
    begun = cli(*words, "--detach")
    assert begun.code == 75
    assert "study mine is not finished: 1 queued, 1 waiting" in begun.err
    while "epoch 2" not in cli("runs", "logs").out:
        assert cli("runs", "status").code == 0
    assert cli("runs", "cancel").code == 0
    assert cli("runs", "wait").code == 75
    (tmp_path / "2").touch()
    done = cli(*words)
    assert done.code == 0, done.err
    assert "study mine: 1 paused, 1 waiting" in done.err
    assert sessions() == {"": 2, 'loss.name="focal"': 1}


def test_seeds_of_a_dispatch_are_a_study_and_a_failed_one_is_repeated(cli: Cli, words: list[str]) -> None:
    seeds = ["dispatch", "--model", "densenet", "--seeds", "2", *words[2:]]
    failed = cli(*seeds)
    assert failed.code == 1
    assert "1 complete, 1 failed; the same command repeats what failed" in failed.err
    assert sessions() == {"training.seed=42": 1, "training.seed=43": 1}
    assert "ensemble" not in failed.out
    assert cli(*seeds).code == 1
    assert sorted(record.overrides for record in records.every(raised)) == [
        ("training.seed=42",),
        ("training.seed=43",),
        ("training.seed=43",),
    ]


def test_seeds_are_refused_with_the_folder_of_one_run(cli: Cli, words: list[str]) -> None:
    seeds = ["dispatch", "--model", "densenet", "--seeds", "2", *words[2:]]
    assert "--out is the folder of one run" in cli(*seeds, "--dry-run", "--out", "x").err
    assert "--run-dir is the folder of one run" in cli(*seeds, "--run-dir", "x").err
    shown = cli(*seeds, "--dry-run")
    assert shown.out.splitlines()[:2] == ["run    base seed=42", "run    base seed=43"]


def test_two_commands_do_not_run_one_study(cli: Cli, words: list[str]) -> None:
    from chexvision_dispatch.studies.study_state import open_state

    with open_state("mine"):
        refused = cli(*words)
    assert refused.code == 1
    assert "another command runs the study mine" in refused.err


def test_state_of_a_later_version_is_refused(cli: Cli, words: list[str]) -> None:
    path = state_path("mine")
    path.parent.mkdir(parents=True)
    path.write_text('{"format": 2, "something": []}')
    refused = cli(*words)
    assert refused.code == 1
    assert f"state {path} has format 2, this version reads 1; update chexvision" in refused.err


def test_study_that_does_not_fit_its_data_is_refused_before_anything_runs(
    cli: Cli, words: list[str], synthetic_shards: Path
) -> None:
    words[-1] = str(synthetic_shards)
    Path("mine.yaml").write_text(
        "{recipe: densenet, set: {data.image_size: 64}, variants: {large: {data.image_size: 96}}}"
    )
    refused = cli(*words)
    assert refused.code == 2
    assert "error: large: data.image_size 96 is above the 64 pixels" in refused.err
    assert records.every(raised) == []


def test_dry_run_lists_the_runs_and_writes_nothing(cli: Cli, words: list[str], tmp_path: Path) -> None:
    shown = cli(*words, "--dry-run")
    assert shown.code == 0, shown.err
    assert shown.out.splitlines() == [
        "run    base",
        "run    focal",
        "run    same   the run of base",
        "dry run: nothing was sent",
    ]
    assert not (tmp_path / "state").exists()
    assert [path.name for path in Path().iterdir()] == ["mine.yaml"]


def test_folder_of_one_run_is_refused(cli: Cli, words: list[str]) -> None:
    refused = cli(*words, "--run-dir", "run")
    assert refused.code == 2
    assert "--run-dir is the folder of one run" in refused.err
