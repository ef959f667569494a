"""The real `huggingface_hub` client against the fake Hub."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import huggingface_hub
import pytest
from huggingface_hub import (
    CommitOperationAdd,
    CommitOperationCopy,
    CommitOperationDelete,
    HfApi,
    HfFileSystem,
    hf_hub_download,
    snapshot_download,
)
from huggingface_hub.errors import (
    BadRequestError,
    EntryNotFoundError,
    HfHubHTTPError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

from tests.fakes.faults import Fault
from tests.fakes.hub import FakeHub

TOKEN = "hf_right"
REPO = "chex/model"
retries_disconnects = pytest.mark.skipif(
    huggingface_hub.__version__.startswith("1."), reason="huggingface_hub 1.x gives up on a closed connection"
)


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeHub]:
    monkeypatch.setattr("time.sleep", lambda seconds: None)  # the client's backoff
    with FakeHub(tmp_path / "hub", TOKEN, multipart_above=1000, part_size=400) as hub:
        hub.environment(monkeypatch)
        yield hub


@pytest.fixture
def api(hub: FakeHub) -> HfApi:
    api = HfApi(endpoint=hub.url, token=TOKEN)
    api.create_repo(REPO)
    return api


def add(path: str, content: bytes) -> CommitOperationAdd:
    return CommitOperationAdd(path_in_repo=path, path_or_fileobj=content)


def commit(
    api: HfApi,
    *operations: CommitOperationAdd | CommitOperationCopy | CommitOperationDelete,
    revision: str = "main",
    parent_commit: str | None = None,
) -> str:
    made = api.create_commit(REPO, operations, commit_message="work", revision=revision, parent_commit=parent_commit)
    return str(made.oid)


def status_of(error: pytest.ExceptionInfo[HfHubHTTPError]) -> int:
    return int(error.value.response.status_code)


def test_whoami_returns_the_scopes_of_a_fine_grained_token(hub: FakeHub, api: HfApi) -> None:
    hub.add_token("hf_fine", "fineGrained", {f"model/{REPO}": ["repo.content.read", "repo.write"]})
    assert api.whoami()["auth"]["accessToken"]["role"] == "write"
    access = api.whoami("hf_fine")["auth"]["accessToken"]
    assert access["role"] == "fineGrained"
    assert access["fineGrained"]["scoped"] == [
        {
            "entity": {"_id": f"model/{REPO}", "type": "model", "name": REPO},
            "permissions": ["repo.content.read", "repo.write"],
        }
    ]
    with pytest.raises(HfHubHTTPError, match="Invalid user token"):
        api.whoami("hf_wrong")


def test_whoami_returns_no_role_for_an_oauth_token(hub: FakeHub, api: HfApi) -> None:
    hub.add_token("hf_oauth_x", "oauth")
    assert api.whoami("hf_oauth_x")["auth"] == {"type": "app_token_as_user", "expiresAt": "2026-02-01T00:00:00Z"}
    assert api.create_repo("chex/by-oauth", token="hf_oauth_x").repo_id == "chex/by-oauth"


def test_token_for_one_repository_cannot_create_repositories(hub: FakeHub, api: HfApi) -> None:
    hub.add_token("hf_fine", "fineGrained", {f"model/{REPO}": ["repo.write"], "model/chex/new": ["repo.write"]})
    fine = HfApi(endpoint=hub.url, token="hf_fine")
    with pytest.raises(HfHubHTTPError, match="You don't have the rights to create a model under") as error:
        fine.create_repo("chex/new")
    assert status_of(error) == 403
    assert fine.create_repo(REPO, exist_ok=True).repo_id == REPO
    hub.add_token("hf_user", "fineGrained", {"user/chex": ["repo.write"]})
    assert api.create_repo("chex/new", token="hf_user").repo_id == "chex/new"


def test_lfs_contents_are_stored_until_they_are_permanently_deleted(hub: FakeHub, api: HfApi) -> None:
    shared, state = b"w" * 400, b"s" * 500
    commit(api, add("model.safetensors", shared))
    api.create_branch(REPO, branch="run/1")
    commit(api, add("best.safetensors", shared), add("state.pt", state), revision="run/1")
    assert hub.stored_bytes(REPO) == 900
    commit(api, CommitOperationDelete("state.pt"), revision="run/1")
    api.delete_branch(REPO, branch="run/1")
    assert hub.stored_bytes(REPO) == 900
    listed = {one.filename: one for one in api.list_lfs_files(REPO)}
    assert listed["state.pt"].ref == "refs/heads/run/1"
    assert listed["state.pt"].oid == hashlib.sha256(state).hexdigest()
    api.permanently_delete_lfs_files(REPO, [listed["state.pt"]], rewrite_history=False)
    assert hub.stored_bytes(REPO) == 400
    assert hub.read(REPO, "model.safetensors") == shared
    api.permanently_delete_lfs_files(REPO, list(api.list_lfs_files(REPO)), rewrite_history=False)
    with pytest.raises(HfHubHTTPError):
        hf_hub_download(REPO, "model.safetensors", endpoint=hub.url)


def test_lfs_contents_are_listed_and_deleted_only_with_write_access(hub: FakeHub, api: HfApi) -> None:
    hub.add_token("hf_reader")
    commit(api, add("model.safetensors", b"w" * 400))
    listed = list(api.list_lfs_files(REPO))
    with pytest.raises(HfHubHTTPError) as error:
        list(api.list_lfs_files(REPO, token="hf_reader"))
    assert status_of(error) == 403
    with pytest.raises(HfHubHTTPError) as error:
        api.permanently_delete_lfs_files(REPO, listed, rewrite_history=False, token="hf_reader")
    assert status_of(error) == 403
    assert hub.stored_bytes(REPO) == 400


def test_fine_grained_token_writes_only_within_its_scopes(hub: FakeHub, api: HfApi) -> None:
    hub.add_token("hf_fine", "fineGrained", {f"model/{REPO}": ["repo.write"]})
    api.create_repo("chex/other")
    fine = HfApi(endpoint=hub.url, token="hf_fine")
    fine.upload_file(path_or_fileobj=b"x", path_in_repo="a.txt", repo_id=REPO)
    with pytest.raises(HfHubHTTPError) as error:
        fine.upload_file(path_or_fileobj=b"x", path_in_repo="a.txt", repo_id="chex/other")
    assert status_of(error) == 403


def test_creating_a_repo_twice_is_a_conflict(hub: FakeHub, api: HfApi) -> None:
    with pytest.raises(HfHubHTTPError) as error:
        api.create_repo(REPO)
    assert status_of(error) == 409
    assert api.create_repo(REPO, exist_ok=True).repo_id == REPO
    api.create_repo("chex/data", repo_type="dataset", private=True)
    assert hub.is_private("chex/data", "dataset")
    assert [c.title for c in hub.commits("chex/data", repo_type="dataset")] == ["initial commit"]


@pytest.mark.parametrize(("token", "error"), [(False, RepositoryNotFoundError), ("hf_wrong", HfHubHTTPError)])
def test_private_repo_is_hidden_without_a_valid_token(
    hub: FakeHub, api: HfApi, token: bool | str, error: type[HfHubHTTPError]
) -> None:
    api.create_repo("chex/secret", private=True)
    with pytest.raises(error) as caught:
        api.repo_info("chex/secret", token=token)
    assert type(caught.value) is error
    assert status_of(caught) == 401
    with pytest.raises(RepositoryNotFoundError) as missing:
        api.repo_info("chex/missing")
    assert status_of(missing) == 404
    assert api.repo_info("chex/secret").private


def test_writing_needs_a_write_token(hub: FakeHub, api: HfApi) -> None:
    hub.add_token("hf_reader")
    for token, status in (("hf_wrong", 401), (False, 401), ("hf_reader", 403)):
        with pytest.raises(HfHubHTTPError) as error:
            api.upload_file(path_or_fileobj=b"x", path_in_repo="a.txt", repo_id=REPO, token=token)
        assert status_of(error) == status
    assert len(hub.commits(REPO)) == 1
    assert api.create_repo(REPO, token="hf_reader", exist_ok=True).repo_id == REPO


def test_commit_is_one_immutable_snapshot(hub: FakeHub, api: HfApi) -> None:
    weights = bytes(range(256)) * 8
    first = commit(api, add("model.safetensors", weights), add("config.json", b"{}"), add("old/a.txt", b"a"))
    second = commit(api, add("config.json", b"[]"), CommitOperationDelete("old/"))
    latest, before, _ = hub.commits(REPO)
    assert (latest.sha, latest.parent, before.sha) == (second, first, first)
    assert hub.read(REPO, "config.json") == b"[]"
    assert before.files["config.json"] == b"{}"
    assert sorted(latest.files) == [".gitattributes", "config.json", "model.safetensors"]
    assert latest.files["model.safetensors"] == weights
    assert [c.title for c in api.list_repo_commits(REPO)] == ["work", "work", "initial commit"]
    copy = CommitOperationCopy("model.safetensors", "copy.safetensors")
    commit(api, copy, CommitOperationDelete("config.json"))
    assert hub.read(REPO, "copy.safetensors") == weights


def test_unchanged_content_makes_no_commit(hub: FakeHub, api: HfApi) -> None:
    sha = commit(api, add("model.safetensors", b"w" * 10), add("config.json", b"{}"))
    assert commit(api, add("model.safetensors", b"w" * 10), add("config.json", b"{}")) == sha
    assert len(hub.commits(REPO)) == 2


def test_stale_parent_commit_is_refused(hub: FakeHub, api: HfApi) -> None:
    first = commit(api, add("a.txt", b"1"))
    second = commit(api, add("a.txt", b"2"), parent_commit=first)
    with pytest.raises(HfHubHTTPError, match="A commit has happened since") as error:
        commit(api, add("a.txt", b"3"), parent_commit=first)
    assert status_of(error) == 412
    assert hub.commits(REPO)[0].sha == second


def test_deleting_a_missing_file_is_refused(api: HfApi) -> None:
    with pytest.raises(EntryNotFoundError):
        commit(api, CommitOperationDelete("nothing.txt"))
    with pytest.raises(RevisionNotFoundError):
        commit(api, add("a.txt", b""), revision="nowhere")


@pytest.mark.parametrize("size", [900, 2100])
def test_large_file_is_uploaded_by_lfs_and_downloaded_from_the_storage_host(
    hub: FakeHub, api: HfApi, tmp_path: Path, size: int
) -> None:
    path = tmp_path / "train-00000-of-00001.parquet"
    path.write_bytes(bytes(i % 251 for i in range(size)))
    api.upload_file(path_or_fileobj=path, path_in_repo=f"data/{path.name}", repo_id=REPO)
    parts = [r for r in hub.requests if r.path.startswith("/upload-part/")]
    assert len(parts) == (0 if size == 900 else 6)
    got = hf_hub_download(REPO, f"data/{path.name}", endpoint=hub.url, token=TOKEN)
    assert Path(got).read_bytes() == path.read_bytes()
    stored = [r for r in hub.requests if r.path.startswith(("/cdn/", "/upload"))]
    assert stored
    assert not any(r.auth for r in stored)
    assert [r.status for r in hub.requests if "/resolve/" in r.path] == [302]


@pytest.mark.parametrize("size", [900, 2100])
def test_content_with_a_wrong_hash_is_refused(hub: FakeHub, api: HfApi, size: int) -> None:
    operation = add("w.safetensors", b"a" * size)
    operation.path_or_fileobj = b"b" * size
    with pytest.raises(RuntimeError, match="Error while uploading") as error:
        commit(api, operation)
    assert isinstance(error.value.__cause__, BadRequestError)
    assert len(hub.commits(REPO)) == 1


def test_small_file_is_served_by_the_resolve_cache(hub: FakeHub, api: HfApi) -> None:
    commit(api, add("config.json", b'{"a": 1}'), add("empty.txt", b""))
    for name, content in (("config.json", b'{"a": 1}'), ("empty.txt", b"")):
        assert Path(hf_hub_download(REPO, name, endpoint=hub.url)).read_bytes() == content
    assert {r.status for r in hub.requests if "/resolve/" in r.path} >= {307, 200}
    assert any("/api/resolve-cache/" in r.path for r in hub.requests)


def test_snapshot_by_branch_tag_and_sha(hub: FakeHub, api: HfApi, tmp_path: Path) -> None:
    sha = commit(api, add("sub/a.txt", b"1"), add("w.safetensors", b"w"))
    api.create_tag(REPO, tag="run/1")
    commit(api, add("sub/a.txt", b"2"))
    for revision, content in ((sha, b"1"), ("run/1", b"1"), ("main", b"2")):
        folder = tmp_path / revision.replace("/", "-")
        snapshot_download(REPO, revision=revision, local_dir=folder, endpoint=hub.url)
        assert (folder / "sub/a.txt").read_bytes() == content
        assert (folder / "w.safetensors").read_bytes() == b"w"
    with pytest.raises(RevisionNotFoundError):
        api.repo_info(REPO, revision="nowhere")
    with pytest.raises(EntryNotFoundError):
        hf_hub_download(REPO, "nothing.txt", endpoint=hub.url)


def test_branches_and_tags(hub: FakeHub, api: HfApi) -> None:
    sha = commit(api, add("a.txt", b"1"))
    api.create_branch(REPO, branch="state/x", revision=sha)
    api.create_tag(REPO, tag="v1", revision="state/x")
    assert commit(api, add("b.txt", b"2"), revision="state/x") == hub.branches(REPO)["state/x"]
    assert hub.tags(REPO) == {"v1": sha}
    refs = api.list_repo_refs(REPO)
    assert {b.name for b in refs.branches} == {"main", "state/x"}
    assert [t.target_commit for t in refs.tags] == [sha]
    with pytest.raises(HfHubHTTPError) as same_branch:
        api.create_branch(REPO, branch="state/x")
    with pytest.raises(HfHubHTTPError) as same_tag:
        api.create_tag(REPO, tag="v1")
    assert status_of(same_branch) == status_of(same_tag) == 409
    api.create_tag(REPO, tag="v1", exist_ok=True)
    with pytest.raises(RevisionNotFoundError):
        api.create_tag(REPO, tag="v2", revision="nowhere")
    api.delete_branch(REPO, branch="state/x")
    api.delete_tag(REPO, tag="v1")
    assert hub.branches(REPO).keys() == {"main"}
    assert hub.tags(REPO) == {}
    with pytest.raises(RevisionNotFoundError):
        api.delete_tag(REPO, tag="v1")


def test_listings(hub: FakeHub, api: HfApi) -> None:
    names = [f"data/{i}.txt" for i in range(7)]
    commit(api, add("w.safetensors", b"weights"), *[add(name, name.encode()) for name in names])
    hub.page_size = 3
    tree: list[Any] = list(api.list_repo_tree(REPO, recursive=True, expand=True))
    assert [e.path for e in tree] == [".gitattributes", "data", *names, "w.safetensors"]
    assert tree[-1].lfs.size == 7
    assert tree[-1].last_commit.title == "work"
    assert [e.path for e in api.list_repo_tree(REPO)] == [".gitattributes", "data", "w.safetensors"]
    assert [e.path for e in api.list_repo_tree(REPO, "data")] == names
    infos = api.get_paths_info(REPO, ["w.safetensors", "data", "nothing"])
    assert [e.path for e in infos] == ["w.safetensors", "data"]
    info = api.model_info(REPO, files_metadata=True)
    assert {s.rfilename: s.size for s in info.siblings or []}["w.safetensors"] == 7
    assert info.sha == hub.commits(REPO)[0].sha
    assert api.file_exists(REPO, "w.safetensors")
    assert not api.file_exists(REPO, "nothing")


def test_hf_file_system_reads_byte_ranges(hub: FakeHub, api: HfApi) -> None:
    content = bytes(i % 251 for i in range(900))
    commit(api, add("a.parquet", content), add("a.txt", content))
    files = HfFileSystem(endpoint=hub.url, token=TOKEN, skip_instance_cache=True)
    for name in ("a.parquet", "a.txt"):
        with files.open(f"{REPO}/{name}", block_size=64) as file:
            file.seek(-10, 2)
            assert file.read() == content[-10:]
            file.seek(100)
            assert file.read(50) == content[100:150]
    assert 206 in {r.status for r in hub.requests if r.path.startswith("/cdn/")}


def test_readme_is_validated(hub: FakeHub, api: HfApi) -> None:
    commit(api, add("README.md", b"---\nlicense: mit\n---\n# Card\n"))
    with pytest.raises(ValueError, match="Invalid metadata"):
        commit(api, add("README.md", b"---\nlicense: mit\n# Card\n"))
    assert hub.read(REPO, "README.md").endswith(b"# Card\n")


def test_gitignored_file_is_not_committed(hub: FakeHub, api: HfApi) -> None:
    commit(
        api,
        add(".gitignore", b"*.log\nout/\n"),
        add("a.log", b"x"),
        add("out/b.txt", b"x"),
        add("c.txt", b""),
    )
    assert sorted(hub.commits(REPO)[0].files) == [".gitattributes", ".gitignore", "c.txt"]


@pytest.mark.parametrize(
    "fault",
    [
        Fault.status(503),
        Fault.status(429, retry_after=1),
        pytest.param(Fault.disconnect(5, during="request"), marks=retries_disconnects),
    ],
)
def test_client_retries_preupload(hub: FakeHub, api: HfApi, fault: Fault) -> None:
    rule = hub.faults.add(r"POST .*/preupload/", fault, times=2)
    commit(api, add("a.txt", b"1"))
    assert rule.fired == 2
    assert hub.read(REPO, "a.txt") == b"1"


@retries_disconnects
def test_client_retries_an_interrupted_upload(hub: FakeHub, api: HfApi) -> None:
    rule = hub.faults.add(r"PUT /upload/", Fault.disconnect(100, during="request"))
    commit(api, add("w.safetensors", b"w" * 900))
    assert rule.fired == 1
    assert hub.read(REPO, "w.safetensors") == b"w" * 900


@pytest.mark.parametrize(("fault", "landed"), [(Fault.status(503), False), (Fault.lose_response(), True)])
def test_client_does_not_retry_a_commit(hub: FakeHub, api: HfApi, fault: Fault, landed: bool) -> None:
    hub.faults.add(r"POST .*/commit/", fault)
    with pytest.raises(Exception) as error:
        commit(api, add("a.txt", b"1"))
    assert isinstance(error.value, HfHubHTTPError) is not landed
    assert len(hub.commits(REPO)) == (2 if landed else 1)
    assert sum("/commit/" in r.path for r in hub.requests) == 1


@retries_disconnects
def test_interrupted_download_is_resumed(hub: FakeHub, api: HfApi, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.DOWNLOAD_CHUNK_SIZE", 100)  # the most that is lost
    content = bytes(i % 251 for i in range(900))
    commit(api, add("w.safetensors", content))
    rule = hub.faults.add(lambda line: line.startswith("GET /cdn/"), Fault.disconnect(after_bytes=300))
    assert Path(hf_hub_download(REPO, "w.safetensors", endpoint=hub.url)).read_bytes() == content
    assert rule.fired == 1
    assert [r.status for r in hub.requests if r.path.startswith("/cdn/")] == [None, 206]


def test_request_records_do_not_contain_tokens(tmp_path: Path) -> None:
    with FakeHub(tmp_path, TOKEN, record_bodies=True) as hub:
        HfApi(endpoint=hub.url, token=TOKEN).create_repo(REPO)
        with pytest.raises(HfHubHTTPError):
            HfApi(endpoint=hub.url, token="hf_wrong").repo_info(REPO)
        HfApi(endpoint=hub.url, token=False).repo_info(REPO, expand=[TOKEN])  # type: ignore[arg-type]
        assert [(r.auth, r.right_token, r.leaked) for r in hub.requests] == [
            (True, True, False), (True, False, False), (False, False, True),
        ]  # fmt: skip
        assert all("hf_hub" in r.user_agent for r in hub.requests)
        assert TOKEN not in repr(hub.requests)
        assert b'"name":"model"' in hub.bodies[0].data.replace(b" ", b"")


def test_another_process_connects_by_environment_variables(hub: FakeHub, api: HfApi) -> None:
    code = (
        "from huggingface_hub import HfApi, hf_hub_download\n"
        "HfApi().upload_file(path_or_fileobj=b'w' * 5, path_in_repo='w.safetensors', repo_id='chex/model')\n"
        "print(open(hf_hub_download('chex/model', 'w.safetensors')).read())\n"
    )
    environment = {**hub.env, "HF_TOKEN": TOKEN, "PATH": "/usr/bin"}
    run = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert run.stdout == "wwwww\n"
    assert hub.read(REPO, "w.safetensors") == b"wwwww"


def test_connections_close_with_the_server(tmp_path: Path) -> None:
    with FakeHub(tmp_path, TOKEN) as hub:
        api = HfApi(endpoint=hub.url, token=TOKEN)
        api.create_repo(REPO)
    with pytest.raises(Exception, match=r"[Cc]onnect"):
        api.repo_info(REPO)
