"""`--on local`: the same script in its own process, in a folder with Kaggle's layout."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from chexvision.recipes import read_resolved
from chexvision_dispatch import run_records as records
from chexvision_dispatch.targets.local import Local, LocalOptions
from tests.dispatch.standin import RECORD, Cli
from tests.fakes.hub import FakeHub

pytestmark = pytest.mark.usefixtures("packs_stand_in")


@pytest.fixture
def words(shards: Path) -> list[str]:
    return ["dispatch", "--model", "densenet", "--on", "local", "--data", str(shards), "--run-dir", "run"]


def seen() -> dict[str, Any]:
    found: dict[str, Any] = json.loads(Path("run/working/artifact/seen.json").read_text())
    return found


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def only_record() -> records.RunRecord:
    (path,) = records.runs_dir().glob("*.json")
    return records.load(path.stem)


def test_run_ends_with_its_artifact_its_log_and_a_record(cli: Cli, words: list[str], shards: Path) -> None:
    result = cli(*words)
    assert result.code == 0, result.out + result.err
    run = Path("run").resolve()
    assert names(run) == ["exit-code", "input", "kernel", "log.txt", "running.lock", "tmp", "working"]
    assert (run / "log.txt").read_bytes().decode() in result.out
    (bundle,) = (run / "tmp").glob("bundle-*")
    assert seen()["argv"][:5] == ["train", "--recipe", f"{bundle}/recipe.json", "--data", str(shards)]
    record = only_record()
    assert (record.target, record.data, record.to) == ("local", str(shards), None)
    assert record.sessions[0].exit_code == 0
    assert record.bundle_sha256 == seen()["provenance"]["bundle_sha256"]
    assert Path(record.folder, "script.py").is_file()


def test_the_recipe_of_a_mixture_names_its_data_sets(cli: Cli, shards: Path) -> None:
    twin = Path("twin").resolve()
    shutil.copytree(shards, twin)
    mixture = f"data.datasets=[{{name: {shards}}}, {{name: twin, weight: 2}}]"
    result = cli("dispatch", "--model", "densenet", "--on", "local", "--run-dir", "run", "--set", mixture)
    assert result.code == 0, result.out + result.err
    assert f"data   {shards} + {twin}\nsplit  {shards}: " in result.out
    (bundle,) = Path("run/tmp").resolve().glob("bundle-*")
    assert seen()["argv"][:4] == ["train", "--recipe", f"{bundle}/recipe.json", "--work"]
    data = read_resolved(bundle / "recipe.json").data
    assert [(one.name, one.weight) for one in data.datasets] == [(str(shards), 1), (str(twin), 2)]
    assert only_record().data == f"{shards} + {twin}"


def test_training_output_is_shown_unchanged(cli: Cli, words: list[str]) -> None:
    result = cli(*words)
    assert "progress 1\rprogress 2\r" in result.out
    assert "trained\n" in result.out


def test_exit_code_passes_through_and_is_recorded(cli: Cli, words: list[str]) -> None:
    assert cli(*words, "--set", "training.seed=7").code == 1
    assert only_record().sessions[0].exit_code == 7


def test_a_modified_script_is_not_resumed(cli: Cli, words: list[str]) -> None:
    assert cli(*words, "--set", "training.seed=7").code == 1
    record = only_record()
    script = Path(record.folder, "script.py")
    sound = script.read_text()
    script.write_text(sound.replace("def ", "import os  # altered\ndef ", 1))
    refused = cli("runs", "resume")
    assert refused.code == 1
    assert f"{script} was altered since {record.run_id} was dispatched" in refused.err
    assert only_record().sessions == record.sessions
    script.write_text(sound)
    assert cli("runs", "resume", "--follow").code == 1
    assert len(only_record().sessions) == 2


def test_a_record_from_before_scripts_were_hashed_resumes(cli: Cli, words: list[str]) -> None:
    assert cli(*words, "--set", "training.seed=7").code == 1
    (path,) = records.runs_dir().glob("*.json")
    older = json.loads(path.read_text())
    del older["script_sha256"], older["format"]
    path.write_text(json.dumps(older))
    assert cli("runs", "resume", "--follow").code == 1
    assert len(only_record().sessions) == 2


def test_default_folder_is_named_after_the_run(cli: Cli, words: list[str]) -> None:
    cli(*words[:-2])
    assert names(Path("runs")) == [only_record().run_id]


def test_training_gets_the_users_hub_token_and_caches_and_no_kaggle_credentials(
    cli: Cli, words: list[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path, fake_hub: FakeHub
) -> None:
    (tmp_path / "no-token").write_text("hf_of_the_login")
    monkeypatch.setenv("KAGGLE_API_TOKEN", "KGAT_mine")
    monkeypatch.setenv("CHEXVISION_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
    fake_hub.add_token("hf_of_the_login", "write")
    monkeypatch.delenv("HF_TOKEN")
    monkeypatch.setattr("huggingface_hub.constants.HF_TOKEN_PATH", str(tmp_path / "no-token"))
    result = cli(*words, "--to", "chex/model")
    assert seen()["argv"][-2:] == ["--to", "chex/model"]
    assert seen()["has_token"]
    assert seen()["caches"] == [str(tmp_path / "cache"), str(tmp_path / "hf")]
    assert "KAGGLE_API_TOKEN" not in seen()["environment"]
    assert "hf_of_the_login" not in result.out


def test_destination_folder_is_relative_to_the_working_directory(cli: Cli, words: list[str]) -> None:
    cli(*words, "--to", "./published")
    assert seen()["argv"][-2:] == ["--to", str(Path("published").resolve())]


def test_nonempty_run_folder_is_unchanged(cli: Cli, words: list[str]) -> None:
    Path("run").mkdir()
    Path("run/mine.txt").touch()
    result = cli(*words)
    assert result.code == 2
    assert "--run-dir run is not empty" in result.err
    assert names(Path("run")) == ["mine.txt"]


def test_dry_run_needs_no_empty_run_folder(cli: Cli, words: list[str]) -> None:
    Path("run").mkdir()
    Path("run/mine.txt").touch()
    result = cli(*words, "--dry-run", "--out", "kernel")
    assert result.code == 0, result.err
    assert names(Path("run")) == ["mine.txt"]
    assert names(Path("kernel")) == ["script.py"]


def test_ctrl_c_detaches_and_the_run_continues_until_it_is_cancelled(
    checkout: Path, cli: Cli, words: list[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("chexvision_dispatch.runs.POLL_S", 0.05)
    paths = [str(checkout / "src"), str(checkout / "dispatch")]
    start = "import sys; from chexvision.cli import main; main(sys.argv[1:])"
    gate = {"STANDIN_EPOCHS": "3", "STANDIN_GATE": str(tmp_path)}
    process = subprocess.Popen(
        [sys.executable, "-u", "-c", start, *words],
        env={**os.environ, **gate, "PYTHONPATH": os.pathsep.join(paths)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    while (line := process.stdout.readline()) != "epoch 1\n":
        assert line, process.communicate()
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=300)
    run_id = only_record().run_id
    assert f"detached; the run continues. Come back with: chexvision runs logs -f {run_id}" in err
    assert process.returncode == 130
    assert "status running" in cli("runs", "status").out
    assert cli("runs", "cancel").code == 0
    ended = cli("runs", "wait")
    assert ended.code == 75
    assert "is paused: it received SIGTERM" in ended.err


def test_session_that_ignores_a_stop_request_is_killed_with_its_children(tmp_path: Path) -> None:
    (tmp_path / "kernel").mkdir()
    (tmp_path / "kernel" / "script.py").write_text(
        "import signal, subprocess, sys, time\n"
        "signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
        "print('deaf', flush=True)\n"
        "subprocess.run([sys.executable, '-c', 'import time; time.sleep(60)'])\n"
    )
    target = Local(LocalOptions(run_dir=tmp_path / "run"))
    session = target.start(RECORD, tmp_path / "kernel")
    while "deaf" not in "".join(target.log(session, follow=False)):
        assert target.state(session).phase == "running"
    target.cancel(session)
    assert target.state(session).phase == "running"
    target.kill(session, None)
    assert "".join(target.log(session, follow=True)) == "deaf\n"
    assert target.state(session).message == "killed without warning"
