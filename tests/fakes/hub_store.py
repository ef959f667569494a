"""Storage of a fake Hub: repositories of immutable commits, contents on disk by sha256."""

from __future__ import annotations

import fnmatch
import hashlib
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

from .messages import HttpError

REGULAR_LIMIT = 10 * 1024 * 1024
_LFS_PATTERNS = {
    "model": "7z arrow bin bz2 ckpt ftz gz h5 joblib mlmodel model msgpack npy npz onnx ot parquet pb pickle"
    " pkl pt pth rar safetensors tar tflite tgz wasm xz zip zst",
    "dataset": "7z arrow avro bin bz2 ckpt gz h5 joblib mp3 npy npz onnx parquet pickle pkl pt pth png jpg"
    " jpeg rar safetensors tar tgz tiff wav webp xz zip zst",
    "space": "7z arrow bin bz2 ckpt gz h5 joblib npy npz onnx parquet pickle pkl pt pth safetensors tar zip",
}


def not_found(kind: str, message: str, headers: dict[str, str] | None = None) -> HttpError:
    """A 404 as the Hub words it; the client chooses its exception by `X-Error-Code`."""
    return HttpError(404, message, {"X-Error-Code": kind, "X-Error-Message": message, **(headers or {})})


@dataclass(frozen=True, slots=True)
class Entry:
    """One file of a commit. `oid` is its git object id: of the pointer, for an LFS file."""

    path: str
    size: int
    sha256: str
    oid: str
    lfs: bool

    @property
    def etag(self) -> str:
        return self.sha256 if self.lfs else self.oid

    def pointer(self) -> bytes:
        return lfs_pointer(self.sha256, self.size)


def now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.000Z")


def lfs_pointer(sha256: str, size: int) -> bytes:
    return f"version https://git-lfs.github.com/spec/v1\noid sha256:{sha256}\nsize {size}\n".encode()


def git_blob_id(content: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


@dataclass(frozen=True, slots=True)
class LfsObject:
    """A content that a repository stores, and that counts toward its quota, until it is permanently deleted."""

    oid: str  # sha256
    size: int
    filename: str
    pushed_at: str
    ref: str | None

    @property
    def file_oid(self) -> str:
        """The id for deletion; it differs from `oid` here so that mistaking one for the other fails."""
        return hashlib.sha256(f"file of {self.oid}".encode()).hexdigest()


@dataclass(frozen=True, slots=True)
class Commit:
    """An immutable snapshot of a repository."""

    sha: str
    parent: str | None
    title: str
    message: str
    date: str
    entries: dict[str, Entry]


class Blobs:
    """Contents on disk, one file each, named by sha256."""

    def __init__(self, root: Path) -> None:
        self.root = root
        root.mkdir(parents=True, exist_ok=True)

    def path(self, sha256: str) -> Path:
        return self.root / sha256

    def has(self, sha256: str, size: int | None = None) -> bool:
        path = self.path(sha256)
        return path.is_file() and (size is None or path.stat().st_size == size)

    def delete(self, sha256: str) -> None:
        self.path(sha256).unlink()

    def add(self, content: bytes) -> str:
        sha256 = hashlib.sha256(content).hexdigest()
        if not self.has(sha256):
            partial = self.path(f"{sha256}.partial")
            partial.write_bytes(content)
            partial.replace(self.path(sha256))
        return sha256


class Files(Mapping[str, bytes]):
    """The files of a commit; contents are read from disk on access."""

    def __init__(self, entries: Mapping[str, Entry], blobs: Blobs) -> None:
        self._entries = entries
        self._blobs = blobs

    def __getitem__(self, path: str) -> bytes:
        return self._blobs.path(self._entries[path].sha256).read_bytes()

    def __iter__(self) -> Iterator[str]:
        return iter(sorted(self._entries))

    def __len__(self) -> int:
        return len(self._entries)


@dataclass(slots=True)
class Repo:
    """A repository: its commits, and the branches and tags that name some of them."""

    kind: str
    id: str
    private: bool
    blobs: Blobs
    commits: dict[str, Commit] = field(default_factory=dict)
    branches: dict[str, str] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)
    lfs: dict[str, LfsObject] = field(default_factory=dict)
    gated: Literal["auto", "manual", False] = False  # as `DatasetInfo.gated` of huggingface_hub

    def initialize(self, sdk: str | None = None) -> None:
        """The Hub's initial commit, whose `.gitattributes` selects LFS files by extension.

        That of a Space has a card, and of a static one a template.

        Source: the initial commits of Spaces, such as huggingface.co/spaces/pytorch/README/commits/main.
        """
        lines = [f"*.{ext} filter=lfs diff=lfs merge=lfs -text\n" for ext in _LFS_PATTERNS[self.kind].split()]
        entry = self.regular(".gitattributes", "".join(lines).encode())
        entries = {entry.path: entry}
        if sdk is not None:
            card = f"---\ntitle: {self.id.partition('/')[2]}\nsdk: {sdk}\npinned: false\n---\n"
            entries["README.md"] = self.regular("README.md", card.encode())
        if sdk == "static":
            entries |= {name: self.regular(name, b"template") for name in ("index.html", "style.css")}
        self.branches["main"] = self.commit(None, "initial commit", "", entries).sha

    def commit(self, parent: str | None, title: str, message: str, entries: dict[str, Entry]) -> Commit:
        """Store a snapshot; moving a branch to it is left to the caller."""
        tree = [(path, entry.etag) for path, entry in sorted(entries.items())]
        identity = [self.kind, self.id, len(self.commits), parent, title, message, tree]
        sha = hashlib.sha1(json.dumps(identity).encode()).hexdigest()
        date = now()
        commit = Commit(sha, parent, title, message, date, dict(entries))
        self.commits[sha] = commit
        return commit

    def regular(self, path: str, content: bytes) -> Entry:
        return Entry(path, len(content), self.blobs.add(content), git_blob_id(content), lfs=False)

    def store(self, sha256: str, filename: str = "", ref: str | None = None) -> None:
        """Count a content that was uploaded; the first file and branch that name it stay with it."""
        known = self.lfs.get(sha256)
        if known is None or not known.filename:
            size = self.blobs.path(sha256).stat().st_size
            self.lfs[sha256] = LfsObject(sha256, size, filename, now(), ref)

    def large(self, path: str, sha256: str) -> Entry:
        size = self.blobs.path(sha256).stat().st_size
        return Entry(path, size, sha256, git_blob_id(lfs_pointer(sha256, size)), lfs=True)

    def resolve(self, revision: str) -> Commit:
        """The commit that a branch, a tag or a sha (7 characters or more) names.

        Raises:
            HttpError: 404 RevisionNotFound.
        """
        name = re.sub(r"^refs/(heads|tags)/", "", revision)
        sha = self.branches.get(name) or self.tags.get(name)
        if sha is None and re.fullmatch(r"[0-9a-f]{7,40}", name):
            sha = next((known for known in self.commits if known.startswith(name)), None)
        if sha is None:
            raise not_found("RevisionNotFound", f"Invalid rev id: {revision}")
        return self.commits[sha]

    def entry(self, commit: Commit, path: str) -> Entry:
        if path not in commit.entries:
            headers = {"X-Repo-Commit": commit.sha}
            raise not_found("EntryNotFound", "Entry not found", headers)
        return commit.entries[path]

    def history(self, revision: str) -> list[Commit]:
        """Commits newest first."""
        commits: list[Commit] = []
        sha: str | None = self.resolve(revision).sha
        while sha is not None:
            commits.append(self.commits[sha])
            sha = commits[-1].parent
        return commits

    def goes_to_lfs(self, commit: Commit, path: str, size: int) -> bool:
        """Whether a file is stored by LFS, because of the commit's `.gitattributes` or its size."""
        attributes = commit.entries.get(".gitattributes")
        text = self.blobs.path(attributes.sha256).read_text() if attributes else ""
        patterns = [line.split()[0] for line in text.splitlines() if "filter=lfs" in line]
        name = path.rpartition("/")[2]
        return size > REGULAR_LIMIT or any(fnmatch.fnmatch(name, pattern) for pattern in patterns)

    def is_ignored(self, commit: Commit, path: str, gitignore: str | None) -> bool:
        """Whether the `.gitignore` being committed, or else the committed one, excludes a path."""
        if gitignore is None and (entry := commit.entries.get(".gitignore")):
            gitignore = self.blobs.path(entry.sha256).read_text()
        for line in (gitignore or "").splitlines():
            pattern = line.strip().strip("/")
            if not pattern or pattern.startswith("#"):
                continue
            parts = path.split("/")
            if any(fnmatch.fnmatch(part, pattern) for part in parts) or fnmatch.fnmatch(path, pattern):
                return True
        return False

    def tree(self, commit: Commit, folder: str, recursive: bool) -> list[tuple[str, Entry | None]]:
        """Paths below a folder in order, with None for a folder's entry.

        Raises:
            HttpError: 404 EntryNotFound when there is no such folder.
        """
        prefix = f"{folder}/" if folder else ""
        found: dict[str, Entry | None] = {}
        for path, entry in commit.entries.items():
            if not path.startswith(prefix):
                continue
            *folders, _ = path.removeprefix(prefix).split("/")
            for depth in range(1, len(folders) + 1 if recursive else min(len(folders), 1) + 1):
                found[prefix + "/".join(folders[:depth])] = None
            if recursive or not folders:
                found[path] = entry
        if folder and not found:
            raise not_found("EntryNotFound", f'{folder} does not exist on "{commit.sha}"')
        return sorted(found.items())
