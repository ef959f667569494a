"""A publication makes one commit and one tag even when requests fail, in a repository and in a folder."""

from __future__ import annotations

import itertools
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from huggingface_hub import HfApi

from chexvision.artifact.store import FolderStore, HubStore
from chexvision.errors import ChexError, PublishError
from chexvision.files.atomic_folder import locked
from tests.fakes.faults import Fault
from tests.fakes.fixtures import FAULTS, HUB_TOKEN, hub_here
from tests.fakes.hub import FakeHub
from tests.fakes.hub_store import Commit

REPO = "chex/model"
RUN = "densenet-20260101-1432-3f9c"
PUBLISH = (
    "import sys; from pathlib import Path; from chexvision.artifact.store import open_store\n"
    "from chexvision.hub.reference import parse_reference\n"
    "print('ready', flush=True); sys.stdin.readline()\n"
    "print(open_store(parse_reference(sys.argv[1])).publish(Path(sys.argv[2]), sys.argv[3]).revision)\n"
)


def artifact(folder: Path, run: str) -> Path:
    """An artifact's files, different for each run; two of them travel by LFS, one is in a folder."""
    (folder / "onnx").mkdir(parents=True)
    (folder / "README.md").write_text(f"---\nlicense: apache-2.0\n---\n# {run}\n")
    (folder / "model.safetensors").write_bytes(f"weights of {run}".encode() * 50)
    (folder / "onnx" / "model.onnx").write_bytes(f"graph of {run}".encode() * 50)
    for name in ("config.json", "history.json", "metrics.json", "run.json"):
        (folder / name).write_text(f'{{"run": "{run}", "file": "{name}"}}\n')
    return folder


def contents(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and ".revisions" not in path.parts
    }


def published(hub: FakeHub, revision: str = "main") -> dict[str, bytes]:
    files = dict(hub.commits(REPO, revision)[0].files)
    del files[".gitattributes"]
    return files


def titles(hub: FakeHub) -> list[str]:
    return [commit.title for commit in hub.commits(REPO)]


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[FakeHub]:
    with hub_here(tmp_path / "hub", FakeHub) as hub:
        yield hub


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return artifact(tmp_path / "artifact", RUN)


def test_a_publication_is_one_commit_and_one_tag(hub: FakeHub, model: Path) -> None:
    done = HubStore(REPO).publish(model, RUN)
    assert titles(hub) == [f"Publish run {RUN}", "initial commit"]
    assert hub.tags(REPO) == {RUN: done.revision}
    assert hub.commits(REPO)[0].sha == done.revision
    assert published(hub) == contents(model)
    assert done.address == f"{hub.url}/{REPO}/tree/{RUN}"


def test_publishing_again_changes_nothing(hub: FakeHub, model: Path, tmp_path: Path) -> None:
    first = HubStore(REPO).publish(model, RUN)
    later = HubStore(REPO).publish(artifact(tmp_path / "later", "later"), "later")
    assert HubStore(REPO).publish(model, RUN) == first
    assert titles(hub) == ["Publish run later", f"Publish run {RUN}", "initial commit"]
    assert hub.tags(REPO) == {RUN: first.revision, "later": later.revision}


def later_artifact(model: Path, tmp_path: Path) -> tuple[Path, Path]:
    """`model` with a figure and a note, and the artifact of a later run, without its graph and figures."""
    (model / "figures").mkdir()
    (model / "figures" / "roc.svg").write_text("<svg/>")
    (model / "figures" / "notes.txt").write_text("as published")
    later = artifact(tmp_path / "later", "later")
    (later / "onnx" / "model.onnx").unlink()
    (later / "onnx").rmdir()
    return model, later


def test_a_later_publication_deletes_stale_artifact_files_and_keeps_the_owners_files(
    hub: FakeHub, model: Path, tmp_path: Path
) -> None:
    model, later = later_artifact(model, tmp_path)
    HubStore(REPO).publish(model, RUN)
    repo = hub.repos["model", REPO]
    head = repo.history("main")[0]
    own = {name: repo.regular(name, b"mine") for name in ("figures/mine.svg", "LICENSE", "figures/notes.txt")}
    repo.branches["main"] = repo.commit(head.sha, "by hand", "", {**head.entries, **own}).sha
    HubStore(REPO).publish(later, "later")
    assert published(hub) == {**contents(later), **dict.fromkeys(own, b"mine")}
    assert set(contents(model)) <= set(published(hub, RUN))
    third = artifact(tmp_path / "third", "third")
    HubStore(REPO).publish(third, "third")
    assert published(hub) == {**contents(third), **dict.fromkeys(own, b"mine")}


def test_a_later_publication_in_a_folder_deletes_stale_artifact_files_and_keeps_the_owners_files(
    model: Path, tmp_path: Path
) -> None:
    model, later = later_artifact(model, tmp_path)
    store = FolderStore(tmp_path / "store")
    store.publish(model, RUN)
    own = ("figures/mine.svg", "LICENSE", "figures/notes.txt")
    for name in own:
        (tmp_path / "store" / name).unlink(missing_ok=True)
        (tmp_path / "store" / name).write_bytes(b"mine")
    store.publish(later, "later")
    assert contents(tmp_path / "store") == {**contents(later), **dict.fromkeys(own, b"mine")}
    assert not (tmp_path / "store" / "onnx").exists()
    assert contents(store.fetch(RUN, tmp_path / "before")) == contents(model)


@pytest.mark.parametrize("private", [True, False])
def test_a_private_publication_creates_a_private_repository(hub: FakeHub, model: Path, private: bool) -> None:
    HubStore(REPO, private=private).publish(model, RUN)
    assert hub.is_private(REPO) is private


def test_a_private_publication_is_not_sent_to_a_public_repository(hub: FakeHub, model: Path) -> None:
    HfApi().create_repo(REPO)
    with pytest.raises(PublishError, match="exists and is public"):
        HubStore(REPO, private=True).publish(model, RUN)
    assert titles(hub) == ["initial commit"]


@pytest.mark.parametrize("fault", FAULTS)
def test_any_single_request_may_fail_once(model: Path, tmp_path: Path, waits: list[float], fault: str) -> None:
    with hub_here(tmp_path / "clean", FakeHub) as hub:
        HubStore(REPO).publish(model, RUN)
        lines = [f"{record.method} {record.path.split('?')[0]}" for record in hub.requests]
    for endpoint in ("/create", "/refs", "/commits/", "/validate-yaml", "/preupload/", "/objects/batch", "/upload/",
                     "/info/lfs/verify", "/commit/", "/tag/"):  # fmt: skip
        assert any(endpoint in line for line in lines), endpoint
    for number, line in enumerate(lines):
        with hub_here(tmp_path / f"hub-{number}", FakeHub) as hub:
            count = itertools.count()
            rule = hub.faults.add(lambda _, count=count, number=number: next(count) == number, FAULTS[fault])  # type: ignore[misc]
            done = HubStore(REPO).publish(model, RUN)
            assert rule.fired == 1, line
            assert titles(hub) == [f"Publish run {RUN}", "initial commit"], line
            assert hub.tags(REPO) == {RUN: done.revision}, line
            assert published(hub, RUN) == contents(model), line


def test_retry_after_of_the_hub_is_respected(hub: FakeHub, model: Path, waits: list[float]) -> None:
    hub.faults.add("/commit/", Fault.status(429, retry_after=200))
    HubStore(REPO).publish(model, RUN)
    assert waits == [200]


@pytest.mark.parametrize("fault", ["503", "disconnect in the request"])
@pytest.mark.parametrize("struck", ["/commit/", "/upload/", "/refs", "/preupload/"])
def test_permanent_failure_leaves_main_unchanged_and_the_local_artifact_complete(
    hub: FakeHub, model: Path, waits: list[float], struck: str, fault: str
) -> None:
    before = contents(model)
    rule = hub.faults.add(struck, FAULTS[fault], times=10_000)
    with pytest.raises(PublishError) as error:
        HubStore(REPO).publish(model, RUN)
    assert error.value.exit_code == 3
    message = str(error.value)
    assert f"could not publish to {REPO}" in message
    assert f"the artifact is complete in {model}" in message
    assert message.endswith(f"chexvision runs collect {RUN}")
    assert HUB_TOKEN not in message
    assert len(waits) == 7
    assert titles(hub) == ["initial commit"]
    assert hub.tags(REPO) == {}
    assert contents(model) == before
    rule.times = 0
    HubStore(REPO).publish(model, RUN)
    assert published(hub, RUN) == before


def test_permanent_errors_are_not_retried(hub: FakeHub, model: Path, waits: list[float]) -> None:
    hub.add_token("hf_reader", "read")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HF_TOKEN", "hf_reader")
        with pytest.raises(PublishError, match=r"may not create chex/model \(HTTP 403\)"):
            HubStore(REPO).publish(model, RUN)
    assert waits == []


def test_a_token_for_one_repository_publishes_there(hub: FakeHub, model: Path, tmp_path: Path) -> None:
    HubStore(REPO).publish(artifact(tmp_path / "first", "first"), "first")
    hub.add_token("hf_fine", "fineGrained", {f"model/{REPO}": ["repo.content.read", "repo.write"]})
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HF_TOKEN", "hf_fine")
        HubStore(REPO).publish(model, RUN)
    assert hub.tags(REPO).keys() == {"first", RUN}


def test_an_untagged_commit_is_found_among_older_commits(hub: FakeHub, model: Path, tmp_path: Path) -> None:
    landed = HubStore(REPO).publish(model, RUN).revision
    HubStore(REPO).publish(artifact(tmp_path / "later", "later"), "later")
    del hub.repos["model", REPO].tags[RUN]  # as if the first process had been killed before tagging
    assert HubStore(REPO).publish(model, RUN).revision == landed
    assert len(hub.commits(REPO)) == 3


def test_a_concurrent_commit_of_another_user_is_kept(hub: FakeHub, model: Path, waits: list[float]) -> None:
    HubStore(REPO).publish(model, RUN)  # the repository already has this content
    other = artifact(model.with_name("other"), "other")

    def commit_concurrently(line: str) -> bool:
        if "/commit/" in line and len(hub.commits(REPO)) == 2:
            repo = hub.repos["model", REPO]
            head: Commit = repo.history("main")[0]
            entry = repo.regular("notes.md", b"by hand")
            repo.branches["main"] = repo.commit(head.sha, "by hand", "", {**head.entries, entry.path: entry}).sha
        return False

    hub.faults.add(commit_concurrently, Fault.status(500))
    HubStore(REPO).publish(other, "other")
    assert titles(hub)[:3] == ["Publish run other", "by hand", f"Publish run {RUN}"]
    assert published(hub) == {**contents(other), "notes.md": b"by hand"}
    assert [record.status for record in hub.requests if "/commit/" in record.path] == [200, 412, 200]
    assert waits == []


def _publish_at_once(destination: str, models: list[tuple[str, Path]], env: dict[str, str]) -> list[str]:
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", PUBLISH, destination, str(folder), run],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=env,
        )
        for run, folder in models
    ]  # fmt: skip
    try:
        for process in processes:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
        for process in processes:
            assert process.stdin is not None
            process.stdin.write("\n")
            process.stdin.flush()
        said = [process.communicate(timeout=300) for process in processes]
    finally:
        for process in processes:
            process.kill()
    assert [process.returncode for process in processes] == [0] * len(processes), said
    return [out.strip() for out, _ in said]


def test_concurrent_publications_of_two_runs_both_succeed(hub: FakeHub, tmp_path: Path) -> None:
    models = {run: artifact(tmp_path / run, run) for run in ("one", "two")}
    env = {**os.environ, **hub.env, "HF_TOKEN": HUB_TOKEN}
    shas = _publish_at_once(REPO, list(models.items()), env)
    assert sorted(titles(hub)) == ["Publish run one", "Publish run two", "initial commit"]
    assert hub.tags(REPO) == dict(zip(models, shas, strict=True))
    for run, folder in models.items():
        assert published(hub, run) == contents(folder)


def test_concurrent_publications_of_one_run_make_one_commit(hub: FakeHub, model: Path) -> None:
    env = {**os.environ, **hub.env, "HF_TOKEN": HUB_TOKEN}
    shas = _publish_at_once(REPO, [(RUN, model), (RUN, model)], env)
    assert len(set(shas)) == 1
    assert titles(hub) == [f"Publish run {RUN}", "initial commit"]


def test_a_model_is_fetched_at_its_tag_despite_transient_failures(
    hub: FakeHub, model: Path, tmp_path: Path, waits: list[float]
) -> None:
    HubStore(REPO).publish(model, RUN)
    for fault in FAULTS.values():
        hub.faults.add("GET ", fault)
    out = HubStore(REPO).fetch(RUN, tmp_path / "fetched")
    assert {name: data for name, data in contents(out).items() if name != ".gitattributes"} == contents(model)


def test_a_folder_keeps_every_run_and_shows_the_newest(model: Path, tmp_path: Path) -> None:
    store = FolderStore(tmp_path / "store")
    later = artifact(tmp_path / "later", "later")
    assert store.publish(model, RUN).revision == RUN
    store.publish(later, "later")
    store.publish(model, RUN)  # again: nothing changes
    assert contents(tmp_path / "store") == contents(later)
    assert contents(store.fetch(None, tmp_path / "newest")) == contents(later)
    assert contents(store.fetch(RUN, tmp_path / "first")) == contents(model)
    with pytest.raises(ChexError, match=rf"no revision 'none' in .*; it holds {RUN}, later"):
        store.fetch("none", tmp_path / "none")
    with pytest.raises(ChexError, match="no revision"):
        store.fetch("../..", tmp_path / "outside")


def test_a_plain_artifact_folder_is_fetched_too(model: Path, tmp_path: Path) -> None:
    assert contents(FolderStore(model).fetch(None, tmp_path / "copy")) == contents(model)


@pytest.mark.parametrize("broken", ["copytree", "write_text_atomic", "Path.replace"])
def test_an_interrupted_folder_publication_is_completed_by_the_next(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, broken: str
) -> None:
    store = FolderStore(tmp_path / "store")
    first = artifact(tmp_path / "first", "first")
    store.publish(first, "first")

    def interrupt(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    target = {"copytree": "shutil.copytree", "Path.replace": "pathlib.Path.replace"}.get(
        broken, "chexvision.artifact.store.write_text_atomic"
    )
    with monkeypatch.context() as patch:
        patch.setattr(target, interrupt)
        with pytest.raises(PublishError, match="No space left"):
            store.publish(model, RUN)
    assert contents(store.fetch(None, tmp_path / "before")) == contents(first)
    store.publish(model, RUN)
    assert contents(tmp_path / "store") == contents(model) == contents(store.fetch(None, tmp_path / "after"))
    assert not list((tmp_path / "store").rglob("*.partial"))


def test_a_revision_that_another_process_makes_is_a_failed_publication(model: Path, tmp_path: Path) -> None:
    store = tmp_path / "store"
    (store / ".revisions").mkdir(parents=True)
    with (
        locked(store / ".revisions" / f".{RUN}.lock"),
        pytest.raises(PublishError, match=f"by another command.*chexvision runs collect {RUN}"),
    ):
        FolderStore(store).publish(model, RUN)


def test_concurrent_publications_to_a_folder_all_succeed(tmp_path: Path) -> None:
    models = {run: artifact(tmp_path / run, run) for run in ("one", "two", "three")}
    store = tmp_path / "store"
    _publish_at_once(str(store), list(models.items()), dict(os.environ))
    order = (store / ".revisions" / "PUBLISHED").read_text().split()
    assert sorted(order) == sorted(models)
    assert contents(store) == contents(models[order[-1]])
    for run, folder in models.items():
        assert contents(FolderStore(store).fetch(run, tmp_path / "out" / run)) == contents(folder)
