"""A run's branch of the repository it publishes to: its progress, the state to resume from, a stop request.

The branch is ``run/<run id>``. Nothing of it shows on ``main``. A state that was replaced is deleted from the Hub's
storage, and once the run is published only its progress is kept.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Iterable, Mapping
from functools import partial
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
        private: whether a repository that has to be created is seen by its owner alone.
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
        self._uploaded: set[str] = set()  # sha256 of all that was sent, whether its commit succeeded or not
        self._may_delete = True

    def send(self, files: Mapping[str, Path | bytes], message: str, without: Iterable[str] = ()) -> str:
        """Commit `files` by their name on the branch, and delete `without` from it; returns the commit.

        The repository and the branch are created where they are missing.

        Raises:
            NotAllowed: the token may not write there, or the repository is public and was to be private.
            ChexError: the Hub does not answer.
        """
        from huggingface_hub import CommitOperationAdd, CommitOperationCopy, CommitOperationDelete, HfApi

        self._make_ready()
        api = HfApi(token=self.token)

        def commit() -> str:
            # Operations are made again each time: the client marks those it has uploaded.
            added = [CommitOperationAdd(name, content) for name, content in sorted(files.items())]
            self._uploaded |= {operation.upload_info.sha256.hex() for operation in added}
            operations: list[CommitOperationAdd | CommitOperationCopy | CommitOperationDelete] = [
                *added,
                *(CommitOperationDelete(name) for name in sorted(without)),
            ]
            commit = api.create_commit(
                self.repo_id, operations, commit_message=message, revision=self.name, repo_type=self.repo_type
            )
            return str(commit.oid)

        return self._asked(commit, "saving to the branch")

    def _make_ready(self) -> None:
        """See that the repository and the branch exist; once, since each commit would ask again."""
        from huggingface_hub import HfApi

        if self._ready:
            return
        create_repository(self.repo_id, self.repo_type, token=self.token, private=self.private)
        api = HfApi(token=self.token)
        self._asked(
            lambda: api.create_branch(self.repo_id, branch=self.name, repo_type=self.repo_type, exist_ok=True),
            "creating the branch",
        )
        self._ready = True

    def free_storage(self) -> None:
        """Delete the contents of states that were replaced from the Hub's storage, unless something else holds them.

        A token that may not do that is told so once; from then on nothing is tried.

        Raises:
            NotAllowed: the token may not delete contents.
            ChexError: the Hub does not answer.
        """
        from huggingface_hub import HfApi

        if not self._may_delete:
            return
        api = HfApi(token=self.token)
        try:
            self._sought(lambda: self._storage.free(api, self.name, self._uploaded), "freeing storage")
        except NotAllowed as error:
            self._may_delete = False
            where = self.repo_id if self.repo_type == "model" else f"{self.repo_type}s/{self.repo_id}"
            raise NotAllowed(
                f"the token may not delete stored files of {self.repo_id}, so that states which were replaced still "
                f"count: delete them on https://huggingface.co/{where}/settings, List LFS files"
            ) from error

    def settle(self, progress: RunProgress) -> None:
        """Leave nothing but the last progress, and free the storage of all states. May be called again.

        Whenever this is cut, the branch says already what became of the run.

        Raises:
            ChexError: it could not be done.
        """
        from huggingface_hub import HfApi

        api = HfApi(token=self.token)
        own = self._files(api, self.name) - self._files(api, "main") - {PROGRESS_FILE}
        told = progress.model_copy(update={"state": ()}).to_json().encode()
        self.send({PROGRESS_FILE: told}, f"Progress of {self.run_id}", without=own)
        self.free_storage()
        self._asked(
            lambda: api.super_squash_history(
                self.repo_id,
                branch=self.name,
                commit_message=f"Progress of {self.run_id}",
                repo_type=self.repo_type,
            ),
            "squashing the branch",
        )

    def _files(self, api: HfApi, revision: str) -> set[str]:
        """The paths of all files at a revision; none where there is no such branch."""
        return set(
            self._sought(
                lambda: api.list_repo_files(self.repo_id, revision=revision, repo_type=self.repo_type),
                f"listing {revision}",
            )
            or ()
        )

    def progress(self) -> RunProgress | None:
        """What the run last said; None where it has not said anything yet.

        Raises:
            ChexError: the Hub does not answer, or keeps the repository from the token.
        """
        with tempfile.TemporaryDirectory() as folder:
            if not self.bring([PROGRESS_FILE], Path(folder)):
                return None
            return read_progress(Path(folder), self.run_id)

    def bring(self, names: Iterable[str], folder: Path) -> list[str]:
        """Download those of `names` that are there into `folder`, each whole or not at all; returns their names.

        Raises:
            ChexError: the Hub does not answer, or keeps the repository from the token.
        """
        from huggingface_hub import HfApi, hf_hub_download

        api = HfApi(token=self.token)
        sha = self._sought(
            lambda: api.repo_info(self.repo_id, revision=self.name, repo_type=self.repo_type).sha,
            "reading the branch",
        )
        if sha is None:
            return []
        brought = []
        with tempfile.TemporaryDirectory(dir=folder) as aside:
            for name in names:
                download = partial(
                    hf_hub_download,
                    self.repo_id,
                    name,
                    revision=sha,
                    repo_type=self.repo_type,
                    local_dir=aside,
                    token=self.token,
                )
                path = self._sought(download, f"fetching {name}")
                if path is not None:
                    (folder / name).parent.mkdir(parents=True, exist_ok=True)
                    shutil.move(path, folder / name)
                    brought.append(name)
        return brought

    def ask_to_stop(self, when: str) -> None:
        """Leave a stop request: the run is to save its state and end.

        Raises:
            ChexError: it could not be done.
        """
        self.send({STOP_FILE: f'{{"asked_at": "{when}"}}\n'.encode()}, f"Ask {self.run_id} to stop")

    def is_asked_to_stop(self) -> bool:
        """Whether somebody left a stop request. Not retried: it is asked every minute anyway.

        Raises:
            Exception: what the Hub's client raised.
        """
        from huggingface_hub import HfApi

        api = HfApi(token=self.token)
        return bool(
            self._found(
                lambda: api.file_exists(self.repo_id, STOP_FILE, revision=self.name, repo_type=self.repo_type)
            )
        )

    def forget_stop(self) -> None:
        """Withdraw the stop request, for the run's next session.

        Raises:
            ChexError: it could not be done.
        """
        if self._asked(self.is_asked_to_stop, "reading the branch"):
            self.send({}, f"Let {self.run_id} go on", without=[STOP_FILE])

    def published_at(self) -> str | None:
        """The commit that the run's tag names, where it was published.

        Raises:
            ChexError: the Hub does not answer, or keeps the repository from the token.
        """
        from huggingface_hub import HfApi

        api = HfApi(token=self.token)
        refs = self._sought(lambda: api.list_repo_refs(self.repo_id, repo_type=self.repo_type), "reading the tags")
        return next((tag.target_commit for tag in refs.tags if tag.name == self.run_id), None) if refs else None

    def _found(self, call: Callable[[], T]) -> T | None:
        """What `call` returns; None where there is no such repository, branch or file."""
        from huggingface_hub.errors import EntryNotFoundError, RepositoryNotFoundError, RevisionNotFoundError

        try:
            return call()
        except (EntryNotFoundError, RepositoryNotFoundError, RevisionNotFoundError):
            return None

    def _sought(self, call: Callable[[], T], what: str) -> T | None:
        return self._asked(lambda: self._found(call), what)

    def _asked(self, call: Callable[[], T], what: str) -> T:
        return call_hub(call, what, RepoRef(self.repo_id), self.repo_type)
