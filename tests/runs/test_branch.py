"""A run's branch on the Hub: what it stores, and what it may not delete."""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from huggingface_hub import CommitOperationDelete, HfApi

from chexvision.errors import ChexError
from chexvision.hub.hub_errors import NotAllowed
from chexvision.hub.lfs_storage import LfsStorage
from chexvision.hub.repository import create_repository
from chexvision.runs.branch import RunBranch
from chexvision.runs.run_progress import PROGRESS_FILE, RunProgress
from chexvision.runs.uploader import Uploader
from tests.fakes.faults import Fault
from tests.fakes.fixtures import HUB_TOKEN, hub_here
from tests.fakes.hub import FakeHub

REPO = "chex/model"
STATES = ("state.pt", "best.safetensors")
PROGRESS = RunProgress(
    run_id="r", status="complete", session=1, updated_at="2026-01-01T00:00:00+00:00", state=STATES, published="there"
)


@pytest.fixture
def hub(tmp_path: Path, waits: list[float]) -> Iterator[FakeHub]:
    with hub_here(tmp_path / "hub", FakeHub) as hub:
        yield hub


def commit(files: dict[str, bytes], branch: str = "main", without: tuple[str, ...] = ()) -> str:
    from huggingface_hub import CommitOperationAdd

    operations = [CommitOperationAdd(name, content) for name, content in files.items()]
    deleted = [CommitOperationDelete(name) for name in without]
    return str(HfApi().create_commit(REPO, [*operations, *deleted], commit_message="by hand", revision=branch).oid)


def state(number: int) -> dict[str, Path | bytes]:
    """A state of 1,000 bytes and best weights of 100."""
    return {STATES[0]: b"%4d" % number * 250, STATES[1]: b"%4d" % (number // 2) * 25}


def test_replaced_states_are_deleted_while_the_run_continues(hub: FakeHub) -> None:
    branch = RunBranch(REPO, "r")
    for number in range(6):
        branch.send(state(number), f"Epoch {number}")
        branch.free_storage()
        assert hub.stored_bytes(REPO) == 1100
    uploads = [record for record in hub.requests if record.method == "PUT"]
    assert len(uploads) == 6 + 3  # best weights that did not change are not uploaded again
    assert hub.read(REPO, STATES[0], "run/r") == state(5)[STATES[0]]
    assert hub.read(REPO, STATES[1], "run/r") == state(5)[STATES[1]]


def test_settled_run_stores_only_its_publication(hub: FakeHub) -> None:
    branch = RunBranch(REPO, "r")
    branch.send({**state(0), "stop.json": b"{}", "script.py": b"print()"}, "Epoch 1")
    branch.send(state(1), "Epoch 2")  # nothing is deleted in between, as in a killed session
    commit({"model.safetensors": b"published" * 10, "README.md": b"# model"})
    branch.settle(PROGRESS)
    assert hub.stored_bytes(REPO) == 90
    (settled,) = hub.commits(REPO, "run/r")
    assert sorted(settled.files) == [".gitattributes", PROGRESS_FILE]
    reported = branch.progress()
    assert reported is not None
    assert (reported.published, reported.state) == ("there", ())
    RunBranch(REPO, "r").settle(PROGRESS)
    assert hub.commits(REPO, "run/r")[0].files[PROGRESS_FILE] == settled.files[PROGRESS_FILE]
    assert hub.read(REPO, "model.safetensors") == b"published" * 10


@pytest.mark.parametrize("holder", ["main", "an earlier commit of main", "another run", "a tag"])
def test_content_with_other_references_is_kept(hub: FakeHub, holder: str) -> None:
    weights = state(0)[STATES[1]]
    assert isinstance(weights, bytes)
    HfApi().create_repo(REPO)
    if holder == "another run":
        RunBranch(REPO, "other").send({STATES[1]: weights}, "Epoch 1")
        where, name = "run/other", STATES[1]
    elif holder == "a tag":
        HfApi().create_branch(REPO, branch="aside")
        where, name = commit({"model.safetensors": weights}, "aside"), "model.safetensors"
        HfApi().create_tag(REPO, tag="kept", revision="aside")
        HfApi().delete_branch(REPO, branch="aside")
    else:
        where, name = commit({"model.safetensors": weights}), "model.safetensors"
        if holder != "main":
            commit({}, without=("model.safetensors",))
    branch = RunBranch(REPO, "r")
    branch.send(state(0), "Epoch 1")
    branch.settle(PROGRESS)
    assert hub.stored_bytes(REPO) == len(weights)
    assert hub.read(REPO, name, where) == weights


def test_contents_of_a_failed_commit_are_deleted(hub: FakeHub) -> None:
    branch = RunBranch(REPO, "r")
    branch.send({}, "Session 1")
    rule = hub.faults.add("/commit/run", Fault.status(400), times=99)
    with pytest.raises(Exception, match="failed on saving"):
        branch.send(state(0), "Epoch 1")
    assert hub.stored_bytes(REPO) == 1100
    rule.times = 0
    branch.send(state(2), "Epoch 2")
    branch.free_storage()
    assert hub.stored_bytes(REPO) == 1100


def test_settling_can_be_completed_after_any_interruption(tmp_path: Path, waits: list[float]) -> None:
    def begun() -> RunBranch:
        branch = RunBranch(REPO, "r")
        trained = PROGRESS.model_copy(update={"published": None, "status": "training"})
        branch.send({**state(0), PROGRESS_FILE: trained.to_json().encode()}, "Epoch 1")
        return branch

    with hub_here(tmp_path / "clean", FakeHub) as hub:
        branch, before = begun(), len(hub.requests)
        branch.settle(PROGRESS)
        requests = len(hub.requests) - before
    for struck in range(requests):
        with hub_here(tmp_path / f"hub-{struck}", FakeHub) as hub:
            branch, counter = begun(), itertools.count()
            rule = hub.faults.add(lambda _, n=struck, c=counter: next(c) >= n, Fault.status(400), times=99)  # type: ignore[misc]
            with pytest.raises(ChexError):
                branch.settle(PROGRESS)
            rule.times = 0
            reported = RunBranch(REPO, "r").progress()
            assert reported is not None, struck  # progress exists at any time, and never names a deleted state
            assert (reported.published is None) is bool(reported.state), struck
            if reported.state:
                assert all(hub.read(REPO, name, "run/r") for name in reported.state), struck
            RunBranch(REPO, "r").settle(PROGRESS)
            assert hub.stored_bytes(REPO) == 0, struck


def test_token_that_may_not_delete_is_reported_once_and_the_run_continues(
    hub: FakeHub, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    hub.faults.add("/lfs-files", Fault.status(403), times=99)
    branch = RunBranch(REPO, "r")
    uploader = Uploader(branch, tmp_path)
    for number in range(3):
        (tmp_path / "state.pt").unlink(missing_ok=True)
        (tmp_path / "state.pt").write_bytes(b"%d" % number * 500)
        uploader.enqueue(PROGRESS, {"state.pt": tmp_path / "state.pt"}, f"Epoch {number}")
        while hub_state(hub) != b"%d" % number * 500:
            time.sleep(0.01)
    uploader.close()
    warned = capsys.readouterr().err
    assert warned.count("WARNING") == 1
    assert f"delete them on https://huggingface.co/{REPO}/settings, List LFS files" in warned
    branch.settle(PROGRESS)
    assert hub.stored_bytes(REPO) == 1500
    assert sum("/lfs-files" in record.path for record in hub.requests) == 1


def hub_state(hub: FakeHub) -> bytes | None:
    try:
        return hub.read(REPO, "state.pt", "run/r")
    except Exception:  # noqa: BLE001 - no repository, no branch or no file yet
        return None


def test_token_for_the_repository_keeps_a_branch_there_and_creates_nothing(hub: FakeHub) -> None:
    hub.add_token("hf_fine", "fineGrained", {f"model/{REPO}": ["repo.content.read", "repo.write"]})
    with pytest.raises(NotAllowed, match=r"may not create chex/model .*https://huggingface.co/new first"):
        RunBranch(REPO, "r", "hf_fine").send(state(0), "Epoch 1")
    assert ("model", REPO) not in hub.repos
    create_repository(REPO, "model", private=True)
    branch = RunBranch(REPO, "r", "hf_fine", private=True)
    branch.send(state(0), "Epoch 1")
    branch.send(state(2), "Epoch 2")
    branch.settle(PROGRESS)
    assert hub.stored_bytes(REPO) == 0
    assert hub.is_private(REPO)


def test_private_run_sends_nothing_to_a_public_repository(hub: FakeHub) -> None:
    HfApi().create_repo(REPO)
    with pytest.raises(NotAllowed, match=f"{REPO} exists and is public"):
        RunBranch(REPO, "r", private=True).send(state(0), "Epoch 1")
    assert hub.branches(REPO).keys() == {"main"}


def test_contents_are_not_listed_if_all_are_in_use(hub: FakeHub) -> None:
    branch = RunBranch(REPO, "r")
    branch.send(state(0), "Epoch 1")
    assert LfsStorage(REPO, "model").free(HfApi(token=HUB_TOKEN), branch.name, ()) == 0
    assert not any("/lfs-files" in record.path for record in hub.requests)


def test_contents_are_not_listed_for_progress_alone(hub: FakeHub) -> None:
    branch = RunBranch(REPO, "run-1")
    for number in (1, 2):
        branch.send({"progress.json": b'{"epoch": %d}' % number}, f"Epoch {number}")
        branch.free_storage()
    assert not any("/lfs-files" in record.path for record in hub.requests)
