"""A fake Hub on the loopback for the real `huggingface_hub`.

    with FakeHub(tmp_path / "hub", token="hf_x") as hub:
        api = HfApi(endpoint=hub.url, token="hf_x")
        api.create_repo("chex/model")
        api.upload_file(path_or_fileobj=b"hello", path_in_repo="a.txt", repo_id="chex/model")
        assert hub.read("chex/model", "a.txt") == b"hello"
        subprocess.run(command, env={**os.environ, **hub.env, "HF_TOKEN": "hf_x"}, check=True)

Models, datasets and Spaces of one user; contents are sent by LFS over HTTP (`HF_HUB_DISABLE_XET=1`). Like the
real one it sends LFS files from a separate storage host, where the token must not be sent, and small files
of public repositories by way of `/api/resolve-cache`. One difference: a 401 about a missing
repository carries `X-Error-Code`, because clients recognise the bare one by `https://` only.
"""

from __future__ import annotations

import hashlib
import sys
import uuid
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote, unquote

from .hub_api import HubApi
from .hub_jobs import HubJobs, Job
from .hub_store import Entry, Files, Repo
from .messages import HttpError, Request, Response, content_response, json_response
from .wire import route

if TYPE_CHECKING:
    import pytest

_DATA_FILE = "/datasets/{repo_id}/resolve/{revision}/{path}"  # datasets/config.py
_PLAIN = r"/((?P<kind>dataset|space)s/)?(?P<repo_id>[^/]+/[^/]+)"


@dataclass(frozen=True, slots=True)
class CommitRecord:
    """A commit as tests inspect it; `files` reads contents on access."""

    sha: str
    parent: str | None
    title: str
    message: str
    files: Files


@dataclass(slots=True)
class _Multipart:
    sha256: str
    parts: dict[int, bytes] = field(default_factory=dict)


class FakeHub(HubApi, HubJobs):
    """A Hub at `url`; contents below `root`.

    Args:
        root: Folder for contents; made when missing.
        token: A token that may write everything of `user`; more with `add_token`.
        user: The one namespace.
        multipart_above: LFS files larger than this (bytes) are uploaded in parts.
        part_size: Bytes in a part.
        record_bodies: Keep the bodies of requests in `bodies`.
    """

    def __init__(
        self,
        root: Path,
        token: str,
        *,
        user: str = "chex",
        multipart_above: int = 5_000_000_000,
        part_size: int = 5 * 1024 * 1024,
        record_bodies: bool = False,
    ) -> None:
        super().__init__(root, token=token, user=user, record_bodies=record_bodies)
        self.root = root
        self.multipart_above = multipart_above
        self.part_size = part_size
        self.jobs: list[Job] = []
        self._multiparts: dict[str, _Multipart] = {}
        self._announced: dict[str, set[tuple[str, str]]] = {}  # repositories that wait for a content's upload
        self.url = self.listen()
        self.cdn_url = self.listen()

    @property
    def env(self) -> dict[str, str]:
        """Environment variables that connect another process to this Hub; the caller sets the token."""
        return {
            "HF_ENDPOINT": self.url,
            "HF_HUB_DISABLE_XET": "1",
            "HF_HUB_DISABLE_TELEMETRY": "1",
            "HF_HUB_DISABLE_PROGRESS_BARS": "1",
            "HF_HOME": str(self.root / "hf-home"),
        }

    def environment(self, monkeypatch: pytest.MonkeyPatch, token: str | None = None) -> None:
        """Connect the `huggingface_hub` of this process to this Hub until the test ends."""
        from huggingface_hub import HfFileSystem, constants

        for name in ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "HF_HUB_OFFLINE"):
            monkeypatch.delenv(name, raising=False)
        for name, value in self.env.items():
            monkeypatch.setenv(name, value)
        if token is not None:
            monkeypatch.setenv("HF_TOKEN", token)
        home = self.root / "hf-home"
        monkeypatch.setattr(constants, "ENDPOINT", self.url)
        template = constants.HUGGINGFACE_CO_URL_TEMPLATE.replace(constants._HF_DEFAULT_ENDPOINT, self.url)
        monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
        monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(home / "hub"))
        monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(home / "token"))
        if (datasets := sys.modules.get("datasets")) is not None:  # it reads the variables when it is imported
            monkeypatch.setattr(datasets.config, "HF_ENDPOINT", self.url)
            monkeypatch.setattr(datasets.config, "HUB_DATASETS_URL", f"{self.url}{_DATA_FILE}")
        HfFileSystem.clear_instance_cache()  # its objects keep the address

    def commits(self, repo: str, revision: str = "main", repo_type: str = "model") -> list[CommitRecord]:
        """The commits that lead to a revision, newest first."""
        return [
            CommitRecord(c.sha, c.parent, c.title, c.message, Files(c.entries, self.blobs))
            for c in self.repos[repo_type, repo].history(revision)
        ]

    def add_dataset_at(self, repo: str, sha: str) -> None:
        """A dataset without shards whose only commit has the given sha."""
        planted = Repo("dataset", repo, private=False, blobs=self.blobs)
        planted.initialize()
        first = planted.commits.pop(planted.branches["main"])
        planted.commits[sha] = replace(first, sha=sha)
        planted.branches["main"] = sha
        self.repos["dataset", repo] = planted

    def tags(self, repo: str, repo_type: str = "model") -> dict[str, str]:
        """Tags and the shas they name."""
        return dict(self.repos[repo_type, repo].tags)

    def branches(self, repo: str, repo_type: str = "model") -> dict[str, str]:
        """Branches and the shas they name."""
        return dict(self.repos[repo_type, repo].branches)

    def read(self, repo: str, path: str, revision: str = "main", repo_type: str = "model") -> bytes:
        """The content of a file at a revision; KeyError when it has no such file."""
        return self.commits(repo, revision, repo_type)[0].files[path]

    def stored_bytes(self, repo: str, repo_type: str = "model") -> int:
        """The bytes of LFS storage that count toward the owner's quota."""
        return sum(one.size for one in self.repos[repo_type, repo].lfs.values())

    def is_private(self, repo: str, repo_type: str = "model") -> bool:
        return self.repos[repo_type, repo].private

    def repo_url(self, kind: str, repo_id: str) -> str:
        return f"{self.url}/{repo_id}" if kind == "model" else f"{self.url}/{kind}s/{repo_id}"

    @route("GET", rf"{_PLAIN}/resolve/(?P<revision>[^/]+)/(?P<path>.+)")
    @route("HEAD", rf"{_PLAIN}/resolve/(?P<revision>[^/]+)/(?P<path>.+)")
    def resolve(self, request: Request, kind: str | None, repo_id: str, revision: str, path: str) -> Response:
        repo = self.repo(request, kind or "model", repo_id)
        commit = repo.resolve(unquote(revision))
        entry = repo.entry(commit, unquote(path))
        headers = {"X-Repo-Commit": commit.sha}
        linked = {"X-Linked-Size": str(entry.size), "X-Linked-Etag": f'"{entry.etag}"'}
        if entry.lfs:
            location = f"{self.cdn_url}/cdn/{entry.sha256}?Expires=9999999999&Signature=x"
            return Response(302, b"", {**headers, **linked, "Location": location})
        if repo.private or not entry.size:
            return self._send_entry(request, entry, headers)
        where = f"{repo.kind}s/{repo.id}/{commit.sha}/{quote(entry.path)}"
        location = f"/api/resolve-cache/{where}?etag=%22{entry.etag}%22"
        return Response(307, b"", {**headers, **linked, "Location": location})

    @route("GET", r"/api/resolve-cache/(?P<kind>\w+?)s/(?P<repo_id>[^/]+/[^/]+)/(?P<sha>\w+)/(?P<path>.+)")
    @route("HEAD", r"/api/resolve-cache/(?P<kind>\w+?)s/(?P<repo_id>[^/]+/[^/]+)/(?P<sha>\w+)/(?P<path>.+)")
    def resolve_cache(self, request: Request, kind: str, repo_id: str, sha: str, path: str) -> Response:
        repo = self.repo(request, kind, repo_id)
        entry = repo.entry(repo.resolve(sha), unquote(path))
        return self._send_entry(request, entry, {"X-Repo-Commit": sha})

    def _send_entry(self, request: Request, entry: Entry, headers: dict[str, str]) -> Response:
        headers = {**headers, "ETag": f'"{entry.etag}"'}
        return content_response(request, self.blobs.path(entry.sha256), headers)

    @route("GET", r"/cdn/(?P<sha256>[0-9a-f]{64})")
    @route("HEAD", r"/cdn/(?P<sha256>[0-9a-f]{64})")
    def cdn(self, request: Request, sha256: str) -> Response:
        if "Signature" not in request.query or not self.blobs.has(sha256):
            return Response(403, b"<Error><Code>AccessDenied</Code></Error>")
        return content_response(request, self.blobs.path(sha256), {"ETag": f'"{sha256}"'})

    @route("POST", rf"{_PLAIN}\.git/info/lfs/objects/batch")
    def lfs_batch(self, request: Request, kind: str | None, repo_id: str) -> Response:
        repo = self.repo(request, kind or "model", repo_id, write=True)
        body = request.json()
        verify = {"href": f"{self.repo_url(repo.kind, repo.id)}.git/info/lfs/verify", "header": {}}
        objects = []
        for item in body["objects"]:
            answer = {"oid": item["oid"], "size": item["size"], "authenticated": True}
            if item["oid"] not in repo.lfs:
                self._announced.setdefault(item["oid"], set()).add((repo.kind, repo.id))
                multipart = item["size"] > self.multipart_above and "multipart" in body["transfers"]
                upload = self._multipart_action(item) if multipart else self._basic_action(item)
                answer["actions"] = {"upload": upload, "verify": verify}
            objects.append(answer)
        any_multipart = any("chunk_size" in str(answer) for answer in objects)
        return json_response({"transfer": "multipart" if any_multipart else "basic", "objects": objects})

    def _basic_action(self, item: dict[str, object]) -> dict[str, object]:
        return {"href": f"{self.cdn_url}/upload/{item['oid']}?Signature=x", "header": {}}

    def _multipart_action(self, item: dict[str, int]) -> dict[str, object]:
        upload_id = uuid.uuid4().hex
        self._multiparts[upload_id] = _Multipart(str(item["oid"]))
        count = -(-item["size"] // self.part_size)
        url = f"{self.cdn_url}/upload-part/{upload_id}"
        parts = {str(number): f"{url}/{number}?Signature=x" for number in range(1, count + 1)}
        complete = f"{self.url}/api/complete_multipart?uploadId={upload_id}&signature=x"
        return {"href": complete, "header": {"chunk_size": str(self.part_size), **parts}}

    @route("PUT", r"/upload/(?P<oid>[0-9a-f]{64})")
    def upload(self, request: Request, oid: str) -> Response:
        if hashlib.sha256(request.body).hexdigest() != oid:
            return Response(400, b"<Error><Code>BadDigest</Code></Error>")
        self._arrived(request.body)
        return Response(200, b"", {"ETag": f'"{oid}"'})

    @route("PUT", r"/upload-part/(?P<upload_id>\w+)/(?P<number>\d+)")
    def upload_part(self, request: Request, upload_id: str, number: str) -> Response:
        self._multiparts[upload_id].parts[int(number)] = request.body
        return Response(200, b"", {"ETag": f'"{hashlib.md5(request.body).hexdigest()}"'})

    @route("POST", "/api/complete_multipart")
    def complete_multipart(self, request: Request) -> Response:
        upload, sent = self._multiparts[request.query["uploadId"][0]], request.json()["parts"]
        etags = [f'"{hashlib.md5(part).hexdigest()}"' for _, part in sorted(upload.parts.items())]
        content = b"".join(part for _, part in sorted(upload.parts.items()))
        if [part["etag"] for part in sent] != etags or hashlib.sha256(content).hexdigest() != upload.sha256:
            raise HttpError(400, "One or more of the specified parts could not be found")
        self._arrived(content)
        return json_response({})

    def _arrived(self, content: bytes) -> None:
        sha256 = self.blobs.add(content)
        with self.lock:
            for key in self._announced.pop(sha256, ()):
                if key in self.repos:
                    self.repos[key].store(sha256)

    @route("POST", rf"{_PLAIN}\.git/info/lfs/verify")
    def lfs_verify(self, request: Request, kind: str | None, repo_id: str) -> Response:
        repo = self.repo(request, kind or "model", repo_id, write=True)
        body = request.json()
        if body["oid"] not in repo.lfs:
            raise HttpError(404, "LFS object not found")
        return json_response({})
