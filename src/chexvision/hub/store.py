"""Where artifacts are published and fetched: one small interface, a Hub repository and a folder behind it."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from chexvision.errors import ChexError
from chexvision.hub.artifact import REQUIRED
from chexvision.hub.reference import Reference, RepoRef

_REVISIONS = ".revisions"
_COMMIT_ATTEMPTS = 5


@dataclass(frozen=True, slots=True)
class Publication:
    """Where an artifact can be had from now on.

    Args:
        address: a web page or a folder.
        revision: the commit, or the tag in a folder.
    """

    address: str
    revision: str


class ArtifactStore(Protocol):
    """A model repository that artifacts are published to under a tag and fetched from at a revision."""

    def publish(self, folder: Path, tag: str) -> Publication:
        """Make the files of `folder` the repository's content in one step, and tag it.

        Publishing the same tag again changes nothing.

        Raises:
            ChexError: it could not be done; nothing of it is visible on the main branch then.
        """
        ...

    def fetch(self, revision: str | None, out: Path) -> Path:
        """Bring the files at `revision` (default: the newest) into the new folder `out`.

        Raises:
            ChexError: there is no such artifact, or it could not be fetched.
        """
        ...


def open_store(reference: Reference) -> ArtifactStore:
    """The store that a reference names."""
    return HubStore(reference.repo_id) if isinstance(reference, RepoRef) else FolderStore(reference)


class HubStore:
    """A model repository on the Hub."""

    def __init__(self, repo_id: str) -> None:
        self.repo_id = repo_id

    def publish(self, folder: Path, tag: str) -> Publication:
        from huggingface_hub import CommitOperationAdd, HfApi
        from huggingface_hub.errors import HfHubHTTPError

        api = HfApi()
        operations = [
            CommitOperationAdd(path.relative_to(folder).as_posix(), path)
            for path in sorted(folder.rglob("*"))
            if path.is_file()
        ]
        try:
            api.create_repo(self.repo_id, exist_ok=True)
            published = self._tagged(tag)
            for attempt in range(1, _COMMIT_ATTEMPTS + 1):
                if published is not None:
                    break
                head = api.model_info(self.repo_id).sha
                try:
                    commit = api.create_commit(
                        self.repo_id, operations, commit_message=f"Publish run {tag}", parent_commit=head
                    )
                    api.create_tag(self.repo_id, tag=tag, revision=commit.oid, exist_ok=True)
                    published = commit.oid
                except HfHubHTTPError as error:
                    # Somebody else committed between our two calls: go on from there.
                    stale = error.response is not None and error.response.status_code in (409, 412)
                    if not stale or attempt == _COMMIT_ATTEMPTS:
                        raise
        # The client's two generations raise errors of different HTTP libraries on a cut connection.
        except Exception as error:
            raise ChexError(
                f"could not publish to {self.repo_id}: {' '.join(str(error).split())[:300]}; the artifact is whole "
                f"in {folder}, check that HF_TOKEN may write there"
            ) from error
        return Publication(f"{api.endpoint}/{self.repo_id}/tree/{tag}", str(published))

    def _tagged(self, tag: str) -> str | None:
        from huggingface_hub import HfApi

        refs = HfApi().list_repo_refs(self.repo_id)
        return next((ref.target_commit for ref in refs.tags if ref.name == tag), None)

    def fetch(self, revision: str | None, out: Path) -> Path:
        from huggingface_hub import snapshot_download

        def download(partial: Path) -> None:
            try:
                snapshot = snapshot_download(self.repo_id, revision=revision)
            except Exception as error:
                raise ChexError(
                    f"could not fetch {RepoRef(self.repo_id, revision)}: {' '.join(str(error).split())[:300]}; check "
                    "the name, the revision, the network and, for a private repository, HF_TOKEN"
                ) from error
            shutil.copytree(snapshot, partial)

        return _fetched(out, str(RepoRef(self.repo_id, revision)), download)


class FolderStore:
    """A folder with the same files as a repository on the Hub.

    Each tag is kept below ``.revisions/``; files that several revisions share are not stored twice there,
    the folder itself shows the newest.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def publish(self, folder: Path, tag: str) -> Publication:
        revision = self.folder / _REVISIONS / tag
        if not revision.is_dir():
            partial = revision.with_name(f".{tag}.{os.getpid()}.partial")
            shutil.rmtree(partial, ignore_errors=True)
            try:
                shutil.copytree(folder, partial)
                partial.rename(revision)
            finally:
                shutil.rmtree(partial, ignore_errors=True)
        for file in sorted(path for path in revision.rglob("*") if path.is_file()):
            shown = self.folder / file.relative_to(revision)
            shown.parent.mkdir(parents=True, exist_ok=True)
            replacement = shown.with_name(f".{shown.name}.{os.getpid()}.partial")
            replacement.unlink(missing_ok=True)
            try:
                replacement.hardlink_to(file)
            except OSError:
                shutil.copy2(file, replacement)  # a file system without hard links
            replacement.replace(shown)
        return Publication(str(self.folder), tag)

    def fetch(self, revision: str | None, out: Path) -> Path:
        source = self.folder if revision is None else self.folder / _REVISIONS / revision
        if not source.is_dir():
            raise ChexError(f"no artifact at {source}; check the path and the revision")
        return _fetched(
            out,
            str(source),
            lambda partial: shutil.copytree(source, partial, ignore=shutil.ignore_patterns(_REVISIONS)),
        )


def _fetched(out: Path, name: str, fill: Callable[[Path], object]) -> Path:
    """Fill a folder beside `out`, look whether it is an artifact, and only then give it its name."""
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise ChexError(f"{out} exists and is not empty; choose another --out")
    partial = out.with_name(f".{out.name}.{os.getpid()}.partial")
    out.parent.mkdir(parents=True, exist_ok=True)
    try:
        fill(partial)
        missing = [file for file in REQUIRED if not (partial / file).is_file()]
        if missing:
            raise ChexError(f"{name} is no CheXVision model: it has no {missing[0]}")
        if out.is_dir():
            out.rmdir()
        partial.rename(out)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return out
