"""The command `chexvision dispatch`: what it refuses, what it writes, and what it keeps secret."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import pytest
import typer

from chexvision.recipes import load_recipe
from chexvision.runs.run_progress import RunProgress
from chexvision_dispatch import run_records as records
from chexvision_dispatch.targets.registry import TARGETS, flag, target_class
from chexvision_dispatch.targets.target import GpuHours, SessionState, Target, TargetOptions
from tests.dispatch.standin import Cli
from tests.fakes.hub import FakeHub
from tests.fakes.kaggle import FakeKaggle

# Simulates an environment without the `train` extra.
WITHOUT_TRAIN = """
import sys

class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("torch", "torchvision", "cv2", "numpy", "pyarrow", "datasets", "sklearn",
                                      "accelerate", "safetensors"):
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Absent())
"""


def written() -> dict[str, Any]:
    metadata: dict[str, Any] = json.loads(Path("kernel/kernel-metadata.json").read_text())
    return metadata


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--model", "densnet"], "unknown model 'densnet'; did you mean 'densenet'?"),
        (["--model", "densenet", "--set", "optim.batchsize=3"], "did you mean 'optim.batch_size'?"),
        (["--model", "densenet", "--set", "optim.batch_size=0"], "optim.batch_size: Input should be greater"),
        (["--model", "densenet", "--preset", "smok"], "did you mean 'smoke'?"),
        (["--model", "densenet", "--timeout-hours", "13"], "--timeout-hours 13 must be above 0 and at most 12"),
        (["--model", "densenet", "--timeout-hours", "nan"], "--timeout-hours nan must be above 0 and at most 12"),
        (["--model", "densenet", "--timeout-hours", "inf"], "--timeout-hours inf must be above 0 and at most 12"),
        (["--model", "densenet", "--accelerator", "NvidiaTeslaP100"], "Kaggle has retired it"),
        (
            ["--model", "densenet", "--accelerator", "NvidiaTeslaT5"],
            "Kaggle does not know it; known are NvidiaTeslaT4",
        ),
        (["--model", "densenet", "--docker-image", "python:3.12"], "must be one of Kaggle's own"),
        (
            ["--model", "densenet", "--flavor", "a100-large"],
            "--flavor is for --on hf-jobs; with --on kaggle leave",
        ),
        (
            ["--model", "densenet", "--max-hours", "2"],
            "--on local; with --on kaggle it follows from --timeout",
        ),
        (["--model", "densenet", "--on", "local", "--max-hours", "0"], "--max-hours 0 must be above 0"),
        (["--model", "densenet", "--on", "local", "--max-hours", "nan"], "--max-hours: Input should be a finite"),
        (["--model", "densenet", "--token-dataset", "slug"], "--token-dataset slug must read OWNER/SLUG"),
        (["--model", "densenet", "--data", "./nowhere"], "--on local"),
        (["--model", "densenet", "--out", "x"], "--dry-run"),
        (["--model", "densenet", "--run-dir", "x"], "--on local"),
        (
            ["--model", "densenet", "--on", "local", "--token-dataset", "a/b"],
            "--token-dataset is for --on kaggle; with --on local the token of HF_TOKEN",
        ),
        (
            ["--model", "densenet", "--on", "local", "--timeout-hours", "1"],
            "--timeout-hours is for --on kaggle, hf-jobs and slurm; with --on local take --max-hours",
        ),
    ],
)
def test_invalid_dispatches_are_refused_before_any_request(
    cli: Cli, fake_hub: FakeHub, fake_kaggle: FakeKaggle, tmp_path: Path, words: list[str], message: str
) -> None:
    fake_kaggle.requests.clear()  # the fixture imports the client, which sends a request
    result = cli("dispatch", *words)
    assert result.code == 2
    assert message in result.err
    assert result.err.count("\n") == 1
    assert fake_hub.requests == fake_kaggle.requests == []
    assert not (tmp_path / "state").exists()
    assert list(Path.cwd().iterdir()) == []


def test_dry_run_writes_the_folder_and_sends_nothing(cli: Cli, fake_kaggle: FakeKaggle, tmp_path: Path) -> None:
    words = ["--model", "scratch", "--to", "chex/model", "--token-dataset", "chex/hub-token", "--dry-run"]
    result = cli("dispatch", *words, "--out", "kernel")
    assert result.code == 0, result.err
    assert sorted(path.name for path in Path("kernel").iterdir()) == ["kernel-metadata.json", "script.py"]
    metadata = written()
    assert metadata["is_private"] is True
    assert metadata["enable_internet"] is True
    assert metadata["machine_shape"] == "NvidiaTeslaT4"
    assert metadata["code_file"] == "script.py"
    assert metadata["dataset_sources"] == ["chex/hub-token"]
    assert "nothing was sent" in result.out
    assert fake_kaggle.requests == []
    assert not (tmp_path / "state").exists()


def test_dry_run_without_credentials_marks_the_missing_user_name(cli: Cli) -> None:
    result = cli("dispatch", "--model", "densenet", "--dry-run", "--out", "kernel")
    assert result.code == 0
    assert "your Kaggle user name is not configured here" in result.out
    assert json.loads(Path("kernel/kernel-metadata.json").read_text())["id"].startswith(
        "USERNAME/chexvision-densenet-"
    )


@pytest.mark.parametrize("place", ["variable", "kaggle.json"])
def test_dry_run_reads_the_user_from_the_credentials(
    cli: Cli, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, place: str
) -> None:
    if place == "variable":
        monkeypatch.setenv("KAGGLE_USERNAME", "alice")
    else:
        (tmp_path / "home" / ".kaggle").mkdir()
        (tmp_path / "home" / ".kaggle" / "kaggle.json").write_text('{"username": "alice", "key": "x"}')
    result = cli("dispatch", "--model", "densenet", "--dry-run", "--out", "kernel")
    assert "user name" not in result.out
    assert written()["id"].startswith("alice/chexvision-")


def test_nonempty_folder_is_unchanged(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine.txt").write_text("mine")
    result = cli("dispatch", "--model", "densenet", "--dry-run", "--out", str(tmp_path / "full"))
    assert result.code == 2
    assert "is not empty; name a new folder" in result.err
    assert [path.name for path in (tmp_path / "full").iterdir()] == ["mine.txt"]
    assert not list(tmp_path.glob(".*partial"))


def test_kernel_id_is_the_slug_of_its_title_even_for_a_long_recipe_name(cli: Cli, tmp_path: Path) -> None:
    from slugify import slugify

    own = tmp_path / "My_Überlong recipe-name of the 21st century, ünd more.yaml"
    own.write_text("extends: densenet\n")
    assert cli("dispatch", "--model", str(own), "--dry-run", "--out", "kernel").code == 0
    metadata = written()
    assert metadata["id"] == f"USERNAME/{slugify(metadata['title'])}"
    assert 5 <= len(metadata["title"]) <= 50


@pytest.mark.parametrize("words", [["--help"], ["dispatch", "--model", "densenet", "--preset", "smoke", "--dry-run"]])
def test_a_laptop_without_the_train_extra_dispatches(tmp_path: Path, words: list[str]) -> None:
    (tmp_path / "sitecustomize.py").write_text(WITHOUT_TRAIN)
    env = {**os.environ, "PYTHONPATH": str(tmp_path)}
    command = [sys.executable, "-c", "import numpy"]
    assert subprocess.run(command, env=env, capture_output=True, check=False).returncode == 1
    done = subprocess.run(
        [sys.executable, "-m", "chexvision", *words], env=env, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""


def test_tokens_of_the_environment_are_never_written_sent_or_printed(
    cli: Cli, packs_stand_in: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, shards: Path
) -> None:
    hub_token, kaggle_token = "hf_" + "Qx7" * 12, "KGAT_" + "Zy9" * 10
    with (
        FakeHub(tmp_path / "hub", hub_token) as hub,
        FakeKaggle(tmp_path / "kaggle", token=kaggle_token, record_bodies=True, session_env=hub.env) as kaggle,
    ):
        hub.environment(monkeypatch, hub_token)
        kaggle.environment(monkeypatch)
        hub.add_dataset_at(*str(load_recipe("densenet").data.dataset).split("@"))
        pushed = cli("dispatch", "--model", "densenet")
        assert pushed.code == 0, pushed.err
        kaggle.sessions[0].wait()
        ran = cli("dispatch", "--model", "densenet", "--on", "local", "--data", str(shards), "--to", "chex/model")
        assert ran.code == 0, ran.out + ran.err
        cli("dispatch", "--model", "densenet", "--dry-run")
        assert not any(record.leaked for record in [*hub.requests, *kaggle.requests])
        sent = b"".join(body.data for body in kaggle.bodies)
    said = "".join(result.out + result.err for result in (pushed, ran))
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert {"script.py", "log.txt", "kernel-metadata.json", "seen.json"} <= {path.name for path in files}
    assert any(path.parent == records.runs_dir() for path in files)
    for token in (hub_token, kaggle_token):
        assert token.encode() not in sent
        assert token not in said
        assert [path for path in files if token.encode() in path.read_bytes()] == []


class DummyOptions(TargetOptions):
    colour: Annotated[str, typer.Option(help="Of the dummy.")] = "red"


class Dummy(Target):
    """A target in one file: it runs nothing and records its option."""

    name = "dummy"
    Options = DummyOptions
    options: DummyOptions

    def check(self, needs: GpuHours | None) -> list[str]:
        return [f"the dummy is {self.options.colour}"]

    def start(self, record: records.RunRecord, folder: Path) -> records.Session:
        return records.Session(record.dispatched_at, f"{self.options.colour}-{(folder / 'script.py').is_file()}")

    def state(self, session: records.Session) -> SessionState:
        return SessionState("complete", session.handle)

    def log(self, session: records.Session, *, follow: bool) -> Iterator[str]:
        yield f"log of {session.handle}\n"

    def cancel(self, session: records.Session) -> bool:
        return True

    def kill(self, session: records.Session, progress: RunProgress | None) -> None: ...


def test_a_new_target_needs_one_class_and_one_registry_line(
    cli: Cli, fake_hub: FakeHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    dispatch = ["dispatch", "--model", "densenet", "--to", "chex/model"]
    fake_hub.add_dataset_at(*str(load_recipe("densenet").data.dataset).split("@"))
    unknown = cli(*dispatch, "--on", "dummy")
    assert unknown.code == 2 and f"'dummy' is not one of {', '.join(map(repr, TARGETS))}" in unknown.err
    assert "--colour" not in cli("dispatch", "--help").out

    monkeypatch.setitem(TARGETS, "dummy", f"{__name__}:Dummy")
    for command in (["dispatch"], ["dispatch", "shards"]):
        assert "(--on dummy) Of the dummy. [default: red]" in " ".join(cli(*command, "--help").out.split())
    refused = cli(*dispatch, "--on", "kaggle", "--colour", "blue")
    assert (refused.code, refused.err) == (
        2,
        "error: --colour is for --on dummy; with --on kaggle leave it out\n",
    )
    refused = cli(*dispatch, "--on", "dummy", "--flavor", "x")
    assert "--flavor is for --on hf-jobs; with --on dummy leave it out" in refused.err

    sent = cli(*dispatch, "--on", "dummy", "--colour", "blue")
    assert sent.code == 0, sent.err
    assert "the dummy is blue" in sent.out
    record = records.find(None)
    assert (record.target, record.options) == ("dummy", {"colour": "blue"})
    assert record.sessions[0].handle == "blue-True"
    assert cli("runs", "logs").out == "log of blue-True\n"


def test_target_options_before_a_subcommand_are_refused(cli: Cli) -> None:
    result = cli("dispatch", "--token-dataset", "a/b", "shards", "--to", "chex/x")
    assert result.code == 2
    assert "write --token-dataset after shards" in result.err


def test_help_lists_every_target_option_and_shared_options_have_one_type(cli: Cli) -> None:
    shown = cli("dispatch", "--help").out
    types: dict[str, set[object]] = {}
    for target in TARGETS:
        for name, field in target_class(target).Options.model_fields.items():
            assert flag(name) in shown
            types.setdefault(name, set()).add(field.annotation)
    assert all(len(kinds) == 1 for kinds in types.values())
    for_gpu = {name for target in TARGETS for name in target_class(target).Options.for_gpu}
    assert for_gpu
    assert not any(flag(name) in cli("dispatch", "shards", "--help").out for name in for_gpu)
