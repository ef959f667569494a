"""A shard folder to the Hub and back: pushed completely, checked there, and inspected without its images."""

from __future__ import annotations

import itertools
import json
import shutil
from pathlib import Path

import pytest
import yaml
from huggingface_hub import CommitOperationAdd, HfApi

from chexvision.cli import main
from chexvision.errors import ChexError, UsageError
from chexvision.hub.reference import RepoRef
from chexvision.labels import NIH
from chexvision.shards.manifest import read_manifest
from chexvision.shards.push import push_shards
from tests.fakes.faults import Fault
from tests.fakes.fixtures import FAULTS, hub_here
from tests.fakes.hub import FakeHub
from tests.shards.pushed import DATA, edit, failures


def remote(hub: FakeHub, revision: str = "main") -> dict[str, bytes]:
    files = dict(hub.commits(DATA, revision, "dataset")[0].files)
    del files[".gitattributes"]
    return files


def local(folder: Path) -> dict[str, bytes]:
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def uploads(hub: FakeHub) -> list[str]:
    return [record.path for record in hub.requests if record.method == "PUT" and record.status == 200]


def run(*words: object) -> int:
    with pytest.raises(SystemExit) as ended:
        main(["shards", *map(str, words)])
    return int(ended.value.code or 0)


def test_push_uploads_the_folder_in_one_commit(hub: FakeHub, small: Path) -> None:
    pushed = push_shards(small, DATA, private=False)
    assert remote(hub) == local(small)
    commits = hub.commits(DATA, repo_type="dataset")
    assert [commit.title for commit in commits] == ["Push 100 images of 32² in 5 shards", "initial commit"]
    assert pushed == RepoRef(DATA, commits[0].sha)
    assert not hub.is_private(DATA, "dataset")
    assert failures(pushed) == {}


def test_the_card_metadata_describes_the_content(hub: FakeHub, small: Path) -> None:
    push_shards(small, DATA, private=True)
    assert hub.is_private(DATA, "dataset")
    _, head, text = hub.read(DATA, "README.md", repo_type="dataset").decode().split("---\n", 2)
    card = yaml.safe_load(head)
    manifest = read_manifest(small)
    assert manifest is not None
    assert card["license"] == "cc0-1.0"
    assert {part["split"] for part in card["configs"][0]["data_files"]} == {"train", "validation", "test"}
    assert {split["name"]: split["num_examples"] for split in card["dataset_info"]["splits"]} == {
        name: counts.images for name, counts in manifest.splits.items()
    }
    assert {"name": "image", "dtype": "image"} in card["dataset_info"]["features"]
    for finding in NIH.findings:
        counts = " | ".join(str(split.findings[finding]) for split in manifest.splits.values())
        assert f"| {finding} | {counts} |" in text


def test_pushing_again_sends_nothing(hub: FakeHub, small: Path) -> None:
    first = push_shards(small, DATA, private=False)
    before = uploads(hub)
    assert push_shards(small, DATA, private=False) == first
    assert uploads(hub) == before
    assert len(hub.commits(DATA, repo_type="dataset")) == 2


@pytest.mark.parametrize("fault", ["503", "disconnect in the request", "response lost"])
def test_any_single_request_may_fail_once(small: Path, tmp_path: Path, waits: list[float], fault: str) -> None:
    with hub_here(tmp_path / "clean", FakeHub) as hub:
        push_shards(small, DATA, private=False)
        count = len(hub.requests)
    assert count > 20
    for number in range(count):
        with hub_here(tmp_path / f"hub-{number}", FakeHub) as hub:
            numbers = itertools.count()
            rule = hub.faults.add(lambda _, n=numbers, number=number: next(n) == number, FAULTS[fault])  # type: ignore[misc]
            pushed = push_shards(small, DATA, private=False)
            assert rule.fired == 1
            assert len(hub.commits(DATA, repo_type="dataset")) == 2
            assert remote(hub, str(pushed.revision)) == local(small)


def test_an_interrupted_push_continues_where_it_was(hub: FakeHub, small: Path) -> None:
    rule = hub.faults.add(r"PUT /upload/", Fault.status(403), times=10**6)
    rule.fired = 0
    passed = itertools.count()
    rule.match = lambda line: line.startswith("PUT /upload/") and next(passed) >= 3
    with pytest.raises(ChexError, match=r"could not push to chex/synthetic: .*uploaded files are not sent twice"):
        push_shards(small, DATA, private=False)
    assert list(remote(hub)) == []
    before = uploads(hub)
    assert len(before) == 3
    rule.times = 0
    push_shards(small, DATA, private=False)
    assert len(uploads(hub)) == len(set(uploads(hub))) == 5
    assert remote(hub) == local(small)


def test_a_folder_that_differs_from_its_manifest_is_not_pushed(hub: FakeHub, small: Path, tmp_path: Path) -> None:
    broken = shutil.copytree(small, tmp_path / "broken")
    shard = next((broken / "data").glob("test-*"))
    data = bytearray(shard.read_bytes())
    data[200] ^= 1
    shard.write_bytes(data)
    with pytest.raises(ChexError, match=r"broken is not pushed, hashes failed: data/test-00000-of-00001.parquet has"):
        push_shards(broken, DATA, private=False)
    (broken / "manifest.json").unlink()
    with pytest.raises(UsageError, match=r"no manifest\.json"):
        push_shards(broken, DATA, private=False)
    assert hub.requests == []


def test_push_deletes_earlier_shards_and_keeps_other_files(hub: FakeHub, small: Path, large: Path) -> None:
    push_shards(small, DATA, private=False)
    edit(CommitOperationAdd("notes.md", b"by hand"))
    pushed = push_shards(large, DATA, private=False)
    assert remote(hub) == {**local(large), "notes.md": b"by hand"}
    assert failures(pushed) == {}


def test_a_shard_added_by_another_client_during_the_push_is_deleted(
    hub: FakeHub, small: Path, waits: list[float]
) -> None:
    def commit_concurrently(line: str) -> bool:
        repo = hub.repos.get(("dataset", DATA))
        if repo and "/commit/" in line and len(repo.history("main")) == 1:
            head = repo.history("main")[0]
            entry = repo.regular("data/extra.parquet", b"x")
            repo.branches["main"] = repo.commit(head.sha, "other", "", {**head.entries, entry.path: entry}).sha
        return False

    hub.faults.add(commit_concurrently, Fault.status(500))
    pushed = push_shards(small, DATA, private=False)
    assert [record.status for record in hub.requests if "/commit/" in record.path] == [412, 200]
    assert remote(hub) == local(small)
    assert failures(pushed) == {}
    assert waits == []


def test_a_private_push_to_a_public_dataset_is_refused(hub: FakeHub, small: Path) -> None:
    HfApi().create_repo(DATA, repo_type="dataset")
    with pytest.raises(UsageError, match=r"exists and is public, --private does not change that"):
        push_shards(small, DATA, private=True)
    assert uploads(hub) == []


def test_a_read_only_token_is_a_one_line_error(
    hub: FakeHub, small: Path, monkeypatch: pytest.MonkeyPatch, waits: list[float]
) -> None:
    hub.add_token("hf_reader", "read")
    monkeypatch.setenv("HF_TOKEN", "hf_reader")
    with pytest.raises(ChexError, match=r"may not create .*HTTP 403.*; then run the command again") as error:
        push_shards(small, DATA, private=False)
    assert "hf_reader" not in str(error.value)
    assert waits == []


def test_files_missing_on_the_hub_after_a_push_are_reported(hub: FakeHub, small: Path) -> None:
    def lose(line: str) -> bool:
        repo = hub.repos.get(("dataset", DATA))
        if repo and "/tree/" in line and len(repo.history("main")) == 2:
            repo.history("main")[0].entries.pop("data/test-00000-of-00001.parquet", None)
        return False

    hub.faults.add(lose, Fault.status(500))
    with pytest.raises(
        ChexError, match=r"differs from the pushed folder: data/test-00000-of-00001.parquet is missing"
    ):
        push_shards(small, DATA, private=False)


def test_commands_print_the_reference_for_the_next_command(
    hub: FakeHub, small: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("push", small, "--repo", DATA) == 0
    pushed = capsys.readouterr().out.strip()
    assert pushed == f"{DATA}@{hub.commits(DATA, repo_type='dataset')[0].sha}"
    assert run("verify", pushed) == 0
    assert all(line.startswith("ok ") for line in capsys.readouterr().out.splitlines())
    assert run("info", pushed, "--json") == 0
    assert json.loads(capsys.readouterr().out)["splits"]["train"]["images"] > 0
    assert run("info", DATA) == 0  # a branch is resolved, and its sha is printed
    shown = capsys.readouterr().out.splitlines()
    assert shown[0] == pushed
    assert shown[3].split() == ["train", "validation", "test"]
    assert run("info", small) == 0
    assert capsys.readouterr().out.splitlines()[1:] == shown[1:]


def test_invalid_input_is_a_one_line_error(
    hub: FakeHub, small: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "empty").mkdir()
    for words, code, message in [
        (("push", small, "--repo", "synthetic"), 2, "--repo synthetic is not a dataset's name; write USER/NAME"),
        (("push", small, "--repo", "chex/synthetic@main"), 2, "is not a dataset's name"),
        (("push", tmp_path / "none", "--repo", DATA), 2, "is not a folder"),
        (("push", tmp_path / "empty", "--repo", DATA), 2, "has no manifest.json"),
        (("push", small, "--repo", "else/synthetic"), 3, "could not push to else/synthetic"),
        (("info", tmp_path / "empty"), 2, "no shards such as"),
        (("info", "chex/none"), 1, "the Hub has no dataset chex/none"),
        (("verify", f"chex/none@{'0' * 40}"), 1, "the Hub has no dataset chex/none"),
    ]:
        assert run(*words) == code, message
        said = capsys.readouterr().err.splitlines()
        assert len(said) == 1 and said[0].startswith("error: ") and message in said[0], said
