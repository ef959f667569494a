"""Shards at a commit sha: downloaded completely, hashed once, cached, and named if corrupt."""

from __future__ import annotations

import itertools
import os
import resource
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from huggingface_hub import CommitOperationDelete, HfApi

from chexvision.data.source import ShardSource, find_shards
from chexvision.errors import ChexError, UsageError
from chexvision.hub.reference import RepoRef
from tests.fakes.faults import Fault
from tests.fakes.fixtures import hub_here
from tests.fakes.hub import FakeHub

TOKEN = "hf_right"
DATA = "chex/synthetic"
FAULTS = {
    "503": Fault.status(503),
    "429": Fault.status(429, retry_after=2),
    "disconnect": Fault.disconnect(3),
    "response lost": Fault.lose_response(),
}
FIND = (
    "import sys; from chexvision.data.source import find_shards; from chexvision.hub.reference import RepoRef\n"
    "from chexvision.errors import ChexError\n"
    "try:\n"
    "    print(find_shards(RepoRef('chex/synthetic', sys.argv[1])).shards['train'][0])\n"
    "except ChexError as error:\n"
    "    sys.exit(f'error: {error}')\n"
)


@pytest.fixture(scope="session")
def small_shards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Synthetic images in five shards. Read only."""
    from chexvision.synthetic.synthesize import synthesize

    folder = tmp_path_factory.mktemp("small") / "shards"
    synthesize(folder, images=180, seed=5, size=48, encoding="png", shard_bytes=130_000, workers=2, overwrite=False)
    return folder


@contextmanager
def a_hub(root: Path) -> Iterator[FakeHub]:
    with pytest.MonkeyPatch.context() as patch, hub_here(root, FakeHub) as hub:
        patch.setenv("CHEXVISION_CACHE", str(root / "cache"))
        yield hub


@pytest.fixture
def hub(tmp_path: Path, waits: list[float]) -> Iterator[FakeHub]:
    with a_hub(tmp_path / "hub") as hub:
        yield hub


def uploaded(folder: Path, *, without: str | None = None, private: bool = False) -> RepoRef:
    api = HfApi()
    api.create_repo(DATA, repo_type="dataset", private=private)
    sha = api.upload_folder(repo_id=DATA, folder_path=folder, repo_type="dataset", ignore_patterns=without).oid
    return RepoRef(DATA, sha)


def served(hub: FakeHub) -> list[str]:
    return [record.path for record in hub.requests if record.method == "GET" and record.path.startswith("/cdn/")]


def same(source: ShardSource, folder: Path) -> bool:
    found = {path.name: path.read_bytes() for paths in source.shards.values() for path in paths}
    return found == {path.name: path.read_bytes() for path in (folder / "data").iterdir()}


def blob(hub: FakeHub, name: str) -> Path:
    """The stored content of a shard, to be tampered with."""
    entries = hub.repos["dataset", DATA].history("main")[0].entries
    return hub.blobs.path(entries[f"data/{name}"].sha256)


def altered(path: Path) -> bytes:
    """Change one byte of a file; its content before."""
    data = path.read_bytes()
    path.write_bytes(data[:1000] + bytes([data[1000] ^ 1]) + data[1001:])
    return data


def first_shard(folder: Path) -> str:
    return sorted(path.name for path in (folder / "data").glob("train-*"))[0]


def test_shards_are_fetched_once_and_hashed_once(
    hub: FakeHub, small_shards: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    reference = uploaded(small_shards)
    source = find_shards(reference)
    assert same(source, small_shards)
    assert len(source.shards["train"]) >= 3
    assert (source.name, source.synthetic) == (str(reference), True)
    assert source.identity == find_shards(small_shards).identity
    assert not any("boxes.csv" in record.path for record in hub.requests if "/resolve/" in record.path)
    before = len(hub.requests)
    monkeypatch.setattr("chexvision.files.hashes.sha256_of", lambda _: pytest.fail("hashed again"))
    assert find_shards(reference) == source
    assert len(hub.requests) == before


def test_only_shards_that_are_needed_are_fetched(hub: FakeHub, small_shards: Path) -> None:
    reference = uploaded(small_shards)
    source = find_shards(reference, {1})
    present = [path.name for paths in source.shards.values() for path in paths if path.is_file()]
    assert present == [source.shards["train"][1].name]
    assert source.identity == find_shards(small_shards).identity
    assert find_shards(reference).shards == source.shards


@pytest.mark.parametrize("fault", FAULTS)
def test_any_single_request_may_fail_once(small_shards: Path, tmp_path: Path, waits: list[float], fault: str) -> None:
    with a_hub(tmp_path / "clean") as hub:
        reference = uploaded(small_shards)
        before = len(hub.requests)
        find_shards(reference)
        count = len(hub.requests) - before
    assert count > 10
    for number in range(count):
        with a_hub(tmp_path / f"hub-{number}") as hub:
            reference = uploaded(small_shards)
            numbers = itertools.count()
            rule = hub.faults.add(lambda _, n=numbers, number=number: next(n) == number, FAULTS[fault])  # type: ignore[misc]
            assert same(find_shards(reference), small_shards)
            assert rule.fired == 1


def test_a_shard_corrupt_on_the_hub_is_fetched_twice_and_named(hub: FakeHub, small_shards: Path) -> None:
    reference = uploaded(small_shards)
    name = first_shard(small_shards)
    altered(blob(hub, name))
    with pytest.raises(ChexError) as error:
        find_shards(reference)
    said = str(error.value)
    assert said.startswith(f"{reference}: shard data/{name} has SHA-256 ")
    assert "also when fetched again" in said
    assert "\n" not in said
    address = f"/cdn/{blob(hub, name).name}"
    assert sum(path.startswith(address) for path in served(hub)) == 2


def test_a_shard_corrupt_in_one_download_is_fetched_again(hub: FakeHub, small_shards: Path) -> None:
    reference = uploaded(small_shards)
    path = blob(hub, first_shard(small_shards))
    right = altered(path)
    seen: list[str] = []

    def repair_at_the_second_request(line: str) -> bool:
        if line.startswith(f"GET /cdn/{path.name}"):
            seen.append(line)
            if len(seen) == 2:
                path.write_bytes(right)
        return False

    hub.faults.add(repair_at_the_second_request, Fault.status(500))
    assert same(find_shards(reference), small_shards)
    assert len(seen) == 2


def test_a_shard_changed_in_the_cache_is_fetched_again(hub: FakeHub, small_shards: Path) -> None:
    reference = uploaded(small_shards)
    altered(find_shards(reference).shards["train"][0].resolve())
    before = len(served(hub))
    assert same(find_shards(reference), small_shards)
    assert len(served(hub)) == before + 1


def test_completed_downloads_are_kept_after_a_failure(hub: FakeHub, small_shards: Path) -> None:
    reference = uploaded(small_shards)
    name = first_shard(small_shards)
    rule = hub.faults.add(rf"GET /cdn/{blob(hub, name).name}", Fault.status(403), times=100)
    with pytest.raises(ChexError, match=r"does not let the token do that \(.*403"):
        find_shards(reference)
    rule.times = 0
    before = len(served(hub))
    assert same(find_shards(reference), small_shards)
    assert 1 <= len(served(hub)) - before < 5


def test_shards_without_a_manifest_are_checked_against_the_hubs_own_hashes(hub: FakeHub, small_shards: Path) -> None:
    reference = uploaded(small_shards, without="manifest.json")
    assert same(find_shards(reference), small_shards)
    before = len(hub.requests)
    assert same(find_shards(reference), small_shards)
    assert len(hub.requests) == before


def test_an_altered_shard_without_a_manifest_is_named(hub: FakeHub, small_shards: Path) -> None:
    reference = uploaded(small_shards, without="manifest.json")
    name = first_shard(small_shards)
    altered(blob(hub, name))
    with pytest.raises(ChexError, match=f"{reference}: shard data/{name} has SHA-256"):
        find_shards(reference)


def test_a_missing_shard_is_named_before_any_download(hub: FakeHub, small_shards: Path) -> None:
    name = first_shard(small_shards)
    reference = uploaded(small_shards, without="manifest.json")
    sha = HfApi().create_commit(
        DATA, [CommitOperationDelete(f"data/{name}")], commit_message="lose one", repo_type="dataset"
    ).oid  # fmt: skip
    with pytest.raises(UsageError, match=f"{DATA}@{sha} lacks 1 of . train shards; the first is {name}"):
        find_shards(RepoRef(DATA, sha))
    assert served(hub) == []
    assert same(find_shards(reference), small_shards)


def test_a_shard_listed_only_in_the_manifest_is_named(hub: FakeHub, small_shards: Path) -> None:
    name = first_shard(small_shards)
    reference = uploaded(small_shards, without=f"data/{name}")
    with pytest.raises(ChexError, match=f"lacks data/{name}, which its manifest names; push it again"):
        find_shards(reference)


@pytest.mark.parametrize("revision", [None, "main", "v1", "abcdef0"])
def test_a_revision_that_is_not_a_sha_is_refused(hub: FakeHub, revision: str | None) -> None:
    with pytest.raises(UsageError, match=r"is not pinned: name its 40-digit commit sha, chex/synthetic@<sha>"):
        find_shards(RepoRef(DATA, revision))
    assert hub.requests == []


def test_missing_repositories_and_revisions_are_one_line_errors(
    hub: FakeHub, small_shards: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(ChexError, match="the Hub has no dataset chex/synthetic, or hides it from you"):
        find_shards(RepoRef(DATA, "0" * 40))
    reference = uploaded(small_shards, private=True)
    with pytest.raises(ChexError, match=f"dataset {DATA} has no revision 0000"):
        find_shards(RepoRef(DATA, "0" * 40))
    monkeypatch.delenv("HF_TOKEN")
    with pytest.raises(ChexError, match="if it is private, log in"):
        find_shards(reference)


def test_a_manifest_with_paths_outside_the_folder_is_refused(
    hub: FakeHub, small_shards: Path, tmp_path: Path
) -> None:
    text = (small_shards / "manifest.json").read_text()
    evil = tmp_path / "evil"
    (evil / "data").mkdir(parents=True)
    (evil / "manifest.json").write_text(text.replace(f"data/{first_shard(small_shards)}", "../../outside.parquet"))
    with pytest.raises(ChexError, match="which is outside its folder"):
        find_shards(uploaded(evil))


def run(
    hub: FakeHub, home: Path, sha: str, *, limit: int | None = None, **more: str
) -> subprocess.CompletedProcess[str]:
    env = {**os.environ, **hub.env, "HF_TOKEN": TOKEN, "HF_HOME": str(home), **more}

    def no_large_files() -> None:
        if limit is not None:
            resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))

    return subprocess.run(
        [sys.executable, "-c", FIND, sha], env=env, capture_output=True, text=True, timeout=300,
        preexec_fn=no_large_files, check=False,
    )  # fmt: skip


@pytest.mark.parametrize("without", [None, "manifest.json"])
def test_the_cache_of_hf_home_serves_offline(
    hub: FakeHub, small_shards: Path, tmp_path: Path, without: str | None
) -> None:
    sha = str(uploaded(small_shards, without=without).revision)
    home = tmp_path / "home"
    empty = run(hub, home, sha, HF_HUB_OFFLINE="1")
    assert empty.stderr.startswith(f"error: dataset {DATA}@{sha} is not complete in the cache {home}")
    assert "HF_HUB_OFFLINE is set" in empty.stderr
    assert empty.stderr.count("\n") == 1
    online = run(hub, home, sha)
    assert online.stdout.startswith(str(home)), online.stderr
    before = len(hub.requests)
    assert run(hub, home, sha, HF_HUB_OFFLINE="1").stdout == online.stdout
    assert len(hub.requests) == before


def test_a_full_disk_is_a_one_line_error(hub: FakeHub, small_shards: Path, tmp_path: Path) -> None:
    sha = str(uploaded(small_shards).revision)
    full = run(hub, tmp_path / "home", sha, limit=40_000)
    assert full.returncode == 1
    assert full.stderr.startswith(f"error: the disk of {tmp_path}/home/hub is full; free some space, or set HF_HOME")
    assert full.stderr.count("\n") == 1
