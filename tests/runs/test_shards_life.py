"""Shards built on Kaggle, next to the release, and pushed to the Hub, with the real clients and the real build."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path
from urllib.parse import unquote

import pytest
from huggingface_hub import HfApi

from chexvision.provenance import now
from chexvision.shards.build import BuildOptions, build_shards
from chexvision_dispatch import run_records as records
from tests.dispatch.standin import Cli
from tests.fakes.faults import Fault
from tests.fakes.hub import FakeHub
from tests.fakes.kaggle import FakeKaggle
from tests.shards.conftest import Release, tree

pytestmark = pytest.mark.usefixtures("packs_stand_in")

DATA = "chex/nih320"
BUILD = ["dispatch", "shards", "--to", DATA, "--size", "32", "--shard-size", "45kB"]

BEFORE_BLOCKED = 30  # images in finished shards when the next image is the blocked one
# In the session's Python: opening one image waits for a file.
WAITS = """
import os, sys, time

def wait(event, arguments):
    if event == "open" and str(arguments[0]).endswith({image!r}):
        while not os.path.exists({go!r}):
            time.sleep(0.01)

sys.addaudithook(wait)
"""


@pytest.fixture
def release(tmp_path: Path, kaggle: FakeKaggle) -> Release:
    """Attached as Kaggle mounts the release: the metadata is next to the image folders."""
    made = Release(tmp_path / "nih")
    made.metadata.rename(made.root / made.metadata.name)
    made.metadata = made.root / made.metadata.name
    made.write_lists(made.names[:30], made.names[30:])
    kaggle.add_dataset("nih-chest-xrays/data", made.root)
    return made


@pytest.fixture
def expected(release: Release, tmp_path: Path) -> dict[str, bytes]:
    usual = BuildOptions(
        split=None, size=32, encoding="png", shard_bytes=45_000, workers=2, seed=0, max_bad=0.0, overwrite=False
    )
    build_shards([release.root], release.metadata, tmp_path / "expected", usual)
    return tree(tmp_path / "expected")


def on_the_hub(hub: FakeHub) -> dict[str, bytes]:
    files = hub.commits(DATA, repo_type="dataset")[0].files
    names = [name for name in files if name != ".gitattributes"]
    return {name: hub.read(DATA, name, repo_type="dataset") for name in names}


def fetched(hub: FakeHub) -> list[str]:
    """Files of the unfinished build that were asked for."""
    asked = [record.path for record in hub.requests if record.method == "GET" and "resolve" in record.path]
    return [path for path in asked if "shards.partial" in unquote(path)]


def build_that_waits(cli: Cli, kaggle: FakeKaggle, release: Release) -> Path:
    """Dispatch a build that waits at an image in the middle of the release, until the returned file is there."""
    kaggle.hold()
    sent = cli(*BUILD)
    assert sent.code == 0, sent.err
    folder = kaggle.sessions[0].folder
    hook = WAITS.format(image=release.names[30], go=str(folder / "go"))
    (folder / "site" / "sitecustomize.py").write_text(hook)
    kaggle.release()
    return folder / "go"


def wait_for_finished(kaggle: FakeKaggle, hub: FakeHub, images: int) -> int:
    branch = f"run/{records.find(None).run_id}"
    while True:
        assert not kaggle.sessions[-1].done, kaggle.sessions[-1].text
        repo = hub.repos.get(("dataset", DATA))
        if repo is None or branch not in repo.branches:
            continue
        if "progress.json" not in hub.commits(DATA, branch, repo_type="dataset")[0].files:
            continue
        done = json.loads(hub.read(DATA, "progress.json", branch, repo_type="dataset"))["images_done"]
        if done >= images:
            return int(done)


def test_built_and_pushed_in_one_commit_without_a_gpu(
    cli: Cli, kaggle: FakeKaggle, fake_hub: FakeHub, release: Release, expected: dict[str, bytes]
) -> None:
    kaggle.gpu_time_allowed = kaggle.gpu_time_used  # none is needed
    sent = cli(*BUILD)
    assert sent.code == 0, sent.err
    assert "data   nih-chest-xrays/data" in sent.out
    session = kaggle.sessions[0].wait()
    assert session.status == "COMPLETE", session.text
    assert session.request["enableGpu"] is False
    assert session.request["datasetDataSources"] == ["nih-chest-xrays/data"]
    assert "machineShape" not in session.request
    assert on_the_hub(fake_hub) == expected
    assert len(fake_hub.commits(DATA, repo_type="dataset")) == 2  # the initial commit and the push
    status = cli("runs", "status").out
    assert "status complete" in status
    assert "images 40 of 40 in finished shards" in status
    pushed = f"{DATA}@{fake_hub.commits(DATA, repo_type='dataset')[0].sha}"
    assert f"to     {pushed}" in status
    assert f"published: {pushed}" in session.text
    assert "published before" in cli("runs", "collect").out
    branch = fake_hub.commits(DATA, f"run/{records.find(None).run_id}", repo_type="dataset")
    assert not any(name.startswith("shards.partial/") for name in branch[0].files)


@pytest.mark.parametrize(("nested", "organizations"), [(False, ()), (True, ())], ids=["flat", "owner"])
def test_release_is_found_in_the_earlier_mount_layout(
    cli: Cli,
    kaggle: FakeKaggle,
    fake_hub: FakeHub,
    release: Release,
    expected: dict[str, bytes],
    nested: bool,
    organizations: tuple[str, ...],
) -> None:
    kaggle.nested_inputs, kaggle.organizations = nested, frozenset(organizations)
    cli(*BUILD)
    assert kaggle.sessions[0].wait().status == "COMPLETE", kaggle.sessions[0].text
    assert on_the_hub(fake_hub) == expected


def test_release_that_is_not_attached_is_named(cli: Cli, kaggle: FakeKaggle, release: Release) -> None:
    kaggle.hold()
    cli(*BUILD)
    session = kaggle.sessions[0]
    (session.folder / "kaggle/input/datasets").rename(session.folder / "kaggle/input/elsewhere")
    kaggle.release()
    assert session.wait().exit_code == 1
    assert "error: the Kaggle dataset nih-chest-xrays/data is not attached to this session" in session.text


def test_killed_session_keeps_finished_shards(
    cli: Cli, kaggle: FakeKaggle, fake_hub: FakeHub, release: Release, expected: dict[str, bytes]
) -> None:
    build_that_waits(cli, kaggle, release)
    done = wait_for_finished(kaggle, fake_hub, BEFORE_BLOCKED)
    assert f"images {done} of 40 in finished shards, about" in cli("runs", "status").out
    kaggle.sessions[0].kill(signal.SIGKILL)
    kaggle.sessions[0].wait()
    for left in kaggle.sessions[0].working.iterdir():  # simulates lost output
        assert left.name in ("progress.json", "shards.partial", ".shards.lock") or left.name.startswith(".sending-")
    kaggle.sessions[0].working.rename(kaggle.sessions[0].working.with_name("lost"))
    kaggle.sessions[0].working.mkdir()
    for image in release.root.rglob("*.png"):
        os.utime(image, (0, 0))  # files may have other times in each session
    assert cli("runs", "wait").code == 1
    resumed = cli("runs", "resume")
    assert resumed.code == 0, resumed.err
    assert kaggle.sessions[1].wait().status == "COMPLETE", kaggle.sessions[1].text
    assert f"continuing after {done} of 40 images" in kaggle.sessions[1].text
    assert fetched(fake_hub)
    assert on_the_hub(fake_hub) == expected
    assert len(fake_hub.commits(DATA, repo_type="dataset")) == 2


def test_stop_request_pauses_after_the_last_finished_shard(
    cli: Cli, kaggle: FakeKaggle, fake_hub: FakeHub, release: Release, expected: dict[str, bytes]
) -> None:
    go = build_that_waits(cli, kaggle, release)
    wait_for_finished(kaggle, fake_hub, BEFORE_BLOCKED)
    assert cli("runs", "cancel").code == 0
    kaggle.sessions[0].wait_for_text("asked to stop")
    go.touch()
    assert kaggle.sessions[0].wait().status == "COMPLETE"
    ended = cli("runs", "wait")
    assert ended.code == 75, ended.err
    assert "is paused: it was asked to stop" in ended.err
    assert cli("runs", "resume", "-f").code == 0
    assert on_the_hub(fake_hub) == expected
    assert fetched(fake_hub) == []  # everything is in the first session's output, which is attached
    pushed = fake_hub.repos["dataset", DATA].history("main")[0].entries.values()
    assert fake_hub.stored_bytes(DATA, "dataset") == sum(entry.size for entry in pushed if entry.lfs)


def test_without_a_token_the_dataset_is_collected_and_pushed_locally(
    cli: Cli, kaggle: FakeKaggle, fake_hub: FakeHub, release: Release, expected: dict[str, bytes]
) -> None:
    kaggle.session_secrets = {}
    cli(*BUILD, "--private")
    assert kaggle.sessions[0].wait().status == "COMPLETE", kaggle.sessions[0].text
    assert [commit.title for commit in fake_hub.commits(DATA, repo_type="dataset")] == ["initial commit"]
    assert "next   chexvision runs collect" in cli("runs", "status").out
    collected = cli("runs", "collect")
    assert collected.code == 0, collected.err
    assert on_the_hub(fake_hub) == expected
    assert fake_hub.repos["dataset", DATA].private
    assert not any(b"hf_right" in body.data for body in kaggle.bodies)


def test_private_build_is_not_pushed_to_a_public_dataset(
    cli: Cli, kaggle: FakeKaggle, fake_hub: FakeHub, release: Release, monkeypatch: pytest.MonkeyPatch
) -> None:
    HfApi().create_repo(DATA, repo_type="dataset")
    refused = cli(*BUILD, "--private")
    assert (refused.code, kaggle.sessions) == (1, [])
    assert f"{DATA} exists and is public" in refused.err
    monkeypatch.delenv("HF_TOKEN")  # only the session can check now
    cli(*BUILD, "--private")
    assert kaggle.sessions[0].wait().exit_code == 1
    assert f"{DATA} exists and is public" in kaggle.sessions[0].text
    assert list(fake_hub.repos["dataset", DATA].branches) == ["main"]
    assert "status failed" in cli("runs", "status").out


def test_stop_request_for_a_private_build_creates_no_public_dataset(
    cli: Cli, kaggle: FakeKaggle, fake_hub: FakeHub, release: Release
) -> None:
    kaggle.hold()
    cli(*BUILD, "--private")
    refused = cli("runs", "cancel")
    assert (refused.code, "no Hub token to read one with" in refused.err) == (1, True)
    assert fake_hub.repos["dataset", DATA].private
    kaggle.release()
    kaggle.sessions[0].wait()


def test_resumed_session_that_fails_at_once_is_not_reported_as_paused(
    cli: Cli, fake_hub: FakeHub, release: Release, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_right")
    words = ["--on", "local", "--images", str(release.root), "--run-dir", "run"]
    assert cli(*BUILD, *words, "--max-hours", "1e-9").code == 75
    release.root.rename(release.root.with_name("moved"))
    reported = json.loads(Path("run/working/progress.json").read_text())
    while now() <= reported["updated_at"]:
        pass
    failed = cli("runs", "resume", "-f")
    assert failed.code == 1, failed.err
    assert "is failed" in failed.err


def test_options_before_the_shards_subcommand_are_refused(cli: Cli, kaggle: FakeKaggle) -> None:
    refused = cli("dispatch", "--dry-run", "shards", "--to", DATA)
    assert refused.code == 2
    assert "write --dry-run after shards" in refused.err


def test_failed_push_is_reported_and_collected_later(
    cli: Cli, kaggle: FakeKaggle, fake_hub: FakeHub, release: Release, expected: dict[str, bytes]
) -> None:
    rule = fake_hub.faults.add(f"POST /api/datasets/{DATA}/commit/main", Fault.status(400), times=99)
    cli(*BUILD)
    assert kaggle.sessions[0].wait().exit_code == 3, kaggle.sessions[0].text
    assert cli("runs", "wait").code == 3
    rule.times = 0
    collected = cli("runs", "collect")
    assert collected.code == 0, collected.err
    assert on_the_hub(fake_hub) == expected


def test_shards_are_built_with_the_same_kernel_locally(
    cli: Cli, fake_hub: FakeHub, release: Release, expected: dict[str, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_right")
    built = cli(*BUILD, "--on", "local", "--images", str(release.root), "--run-dir", "run")
    assert built.code == 0, built.err
    assert tree(Path("run/working/shards")) == expected == on_the_hub(fake_hub)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--to", "nih320"], "--to nih320 is not a dataset's name; write USER/NAME"),
        (["--to", DATA, "--on", "hf-jobs"], "--on hf-jobs has no copy of the release"),
        (["--to", DATA, "--images", "here"], "--images is a folder on this machine; kaggle has the release"),
        (["--to", DATA, "--on", "local"], "on this machine name the folder of the release: --images DIR"),
        (["--to", DATA, "--split", "none.csv"], "is neither 'official' nor 'patient' nor a file"),
    ],
)
def test_invalid_input_is_a_one_line_error_before_any_request(
    cli: Cli, kaggle: FakeKaggle, words: list[str], message: str
) -> None:
    refused = cli("dispatch", "shards", *words)
    assert refused.code == 2
    assert message in refused.err
    assert len(refused.err.splitlines()) == 1
    assert kaggle.sessions == []
