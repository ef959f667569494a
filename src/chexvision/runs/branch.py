"""A run's branch of the repository it publishes to: its progress, the state to resume from, a stop request.

The branch is ``run/<run id>``. Nothing of it shows on ``main``. A state that was replaced is deleted from the Hub's
storage, and once the run is published only its progress is kept.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Iterable, Mapping
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from chexvision.hub.hub_errors import NotAllowed, RepoType, call_hub
from chexvision.hub.lfs_storage import LfsStorage
from chexvision.hub.reference import RepoRef
from chexvision.hub.repository import create_repository
from chexvision.runs.run_progress import PROGRESS_FILE, RunProgress, read_progress

if TYPE_CHECKING:
    from huggingface_hub import HfApi

STOP_FILE = "stop.json"

T = TypeVar("T")


class RunBranch:
    """The branch of one run.

    Args:
        repo_id: the repository that the run publishes to.
        run_id: the run.
        token: of the Hub; the user's own where left out.
        repo_type: "model", or "dataset" for a run that builds shards.
        private: whether a repository that has to be created is visible to its owner alone.
    """

    def __init__(
        self,
        repo_id: str,
        run_id: str,
        token: str | None = None,
        repo_type: RepoType = "model",
        *,
        private: bool = False,
    ) -> None:
        self.repo_id = repo_id
        self.repo_type = repo_type
        self.private = private
        self.run_id = run_id
        self.token = token
        self.name = f"run/{run_id}"
        self._ready = False
        self._storage = LfsStorage(repo_id, repo_type)
        self._uploaded: set[str] = set()  # sha256 of what may be in LFS, whether its commit succeeded or not
        self._may_delete = True

    @cached_property
    def _api(self) -> HfApi:
        from huggingface_hub import HfApi

        return HfApi(token=self.token)

    def send(self, files: Mapping[str, Path | bytes], message: str, without: Iterable[str] = ()) -> str:
        """Commit `files` by their name on the branch, and delete `without` from it; returns the commit.

        The repository and the branch are created where they are missing.

        Raises:
            NotAllowed: the token may not write there, or the repository is public and was to be private.
            ChexError: the Hub does not answer.
        """
        from huggingface_hub import CommitOperationAdd, CommitOperationCopy, CommitOperationDelete

        self._make_ready()

        def commit() -> str:
            # New operations for each attempt: the client marks those it has uploaded.
            added = [CommitOperationAdd(name, content) for name, content in sorted(files.items())]
            # JSON is stored in git itself.
            large = [operation for operation in added if not operation.path_in_repo.endswith(".json")]
            self._uploaded |= {operation.upload_info.sha256.hex() for operation in large}
            operations: list[CommitOperationAdd | CommitOperationCopy | CommitOperationDelete] = [
                *added,
                *(CommitOperationDelete(name) for name in sorted(without)),
            ]
            commit = self._api.create_commit(
                self.repo_id, operations, commit_message=message, revision=self.name, repo_type=self.repo_type
            )
            return str(commit.oid)

        return self._call(commit, "saving to the branch")

    def _make_ready(self) -> None:
        """Create the repository and the branch where they are missing; checked once, not at each commit."""
        if self._ready:
            return
        create_repository(self.repo_id, self.repo_type, token=self.token, private=self.private)
        self._call(
            lambda: self._api.create_branch(self.repo_id, branch=self.name, repo_type=self.repo_type, exist_ok=True),
            "creating the branch",
        )
        self._ready = True

    def free_storage(self) -> None:
        """Delete the contents of states that were replaced from the Hub's storage, unless something else holds them.

        Where the token may not do that, it is reported once and not tried again.

        Raises:
            NotAllowed: the token may not delete contents.
            ChexError: the Hub does not answer.
        """
        if not self._may_delete:
            return
        try:
            self._find(lambda: self._storage.free(self._api, self.name, self._uploaded), "freeing storage")
            self._uploaded.clear()
        except NotAllowed as error:
            self._may_delete = False
            where = self.repo_id if self.repo_type == "model" else f"{self.repo_type}s/{self.repo_id}"
            raise NotAllowed(
                f"the token may not delete stored files of {self.repo_id}, so that states which were replaced still "
                f"count: delete them on https://huggingface.co/{where}/settings, List LFS files"
            ) from error

    def settle(self, progress: RunProgress) -> None:
        """Keep nothing but the last progress, and free the storage of all states. May be called again.

        The progress is committed first, so that the branch has the outcome even if this is interrupted.

        Raises:
            ChexError: it could not be done.
        """
        own = self._files(self.name) - self._files("main") - {PROGRESS_FILE}
        reported = progress.model_copy(update={"state": ()}).to_json().encode()
        self.send({PROGRESS_FILE: reported}, f"Progress of {self.run_id}", without=own)
        self.free_storage()
        squash = partial(self._api.super_squash_history, self.repo_id, branch=self.name, repo_type=self.repo_type)
        self._call(partial(squash, commit_message=f"Progress of {self.run_id}"), "squashing the branch")

    def _files(self, revision: str) -> set[str]:
        """The paths of all files at a revision; none where there is no such branch."""
        listing = partial(self._api.list_repo_files, self.repo_id, revision=revision, repo_type=self.repo_type)
        return set(self._find(listing, f"listing {revision}") or ())

    def progress(self) -> RunProgress | None:
        """What the run reported last; None where it has not reported anything yet.

        Raises:
            ChexError: the Hub does not answer, or hides the repository from the token.
        """
        with tempfile.TemporaryDirectory() as folder:
            if not self.download([PROGRESS_FILE], Path(folder)):
                return None
            return read_progress(Path(folder), self.run_id)

    def download(self, names: Iterable[str], folder: Path) -> list[str]:
        """Download those of `names` that exist into `folder`, each complete or not at all; returns their names.

        Raises:
            ChexError: the Hub does not answer, or hides the repository from the token.
        """
        sha = self._find(
            lambda: self._api.repo_info(self.repo_id, revision=self.name, repo_type=self.repo_type).sha,
            "reading the branch",
        )
        if sha is None:
            return []
        downloaded = []
        with tempfile.TemporaryDirectory(dir=folder) as temporary:
            for name in names:
                fetch = partial(self._api.hf_hub_download, self.repo_id, name, revision=sha, repo_type=self.repo_type)
                path = self._find(partial(fetch, local_dir=temporary), f"fetching {name}")
                if path is not None:
                    (folder / name).parent.mkdir(parents=True, exist_ok=True)
                    shutil.move(path, folder / name)
                    downloaded.append(name)
        return downloaded

    def request_stop(self, when: str) -> None:
        """Leave a stop request: the run is to save its state and end.

        Raises:
            ChexError: it could not be done.
        """
        self.send({STOP_FILE: f'{{"asked_at": "{when}"}}\n'.encode()}, f"Ask {self.run_id} to stop")

    def stop_requested(self) -> bool:
        """Whether there is a stop request. Not retried: it is polled every minute anyway.

        Raises:
            Exception: what the Hub's client raised.
        """
        return self._api.file_exists(self.repo_id, STOP_FILE, revision=self.name, repo_type=self.repo_type)

    def withdraw_stop_request(self) -> None:
        """Withdraw the stop request, for the run's next session.

        Raises:
            ChexError: it could not be done.
        """
        if self._call(self.stop_requested, "reading the branch"):
            self.send({}, f"Let {self.run_id} continue", without=[STOP_FILE])

    def published_at(self) -> str | None:
        """The commit that the run's tag names, where it was published.

        Raises:
            ChexError: the Hub does not answer, or hides the repository from the token.
        """
        refs = self._find(
            lambda: self._api.list_repo_refs(self.repo_id, repo_type=self.repo_type), "reading the tags"
        )
        return next((tag.target_commit for tag in refs.tags if tag.name == self.run_id), None) if refs else None

    def _find(self, call: Callable[[], T], what: str) -> T | None:
        """What `call` returns; None where there is no such repository, branch or file."""
        from huggingface_hub.errors import EntryNotFoundError, RepositoryNotFoundError, RevisionNotFoundError

        def once() -> T | None:
            try:
                return call()
            except (EntryNotFoundError, RepositoryNotFoundError, RevisionNotFoundError):
                return None

        return self._call(once, what)

    def _call(self, call: Callable[[], T], what: str) -> T:
        return call_hub(call, what, RepoRef(self.repo_id), self.repo_type)
