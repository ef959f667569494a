"""A run's branch of the repository it publishes to: its progress, the state to resume from, the wish that it stop.

The branch is ``run/<run id>``. Nothing of it shows on ``main``. Once the run is published only its progress is kept.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from pathlib import Path
from typing import Literal, TypeVar

from chexvision.errors import ChexError
from chexvision.hub.retry import is_transient, reason, retried, status_of
from chexvision.hub.run_progress import PROGRESS_FILE, RunProgress, read_progress

STOP_FILE = "stop.json"

RepoType = Literal["model", "dataset"]
T = TypeVar("T")


class NotAllowed(ChexError):
    """The token is wrong, expired, or may not write there; trying again will not help."""


class RunBranch:
    """The branch of one run.

    Args:
        repo_id: the repository that the run publishes to.
        run_id: the run.
        token: of the Hub; the user's own where left out.
        repo_type: "model", or "dataset" for a run that builds shards.
        private: whether a repository that has to be made is seen by its owner alone.
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

    def send(self, files: Mapping[str, Path | bytes], message: str, without: Iterable[str] = ()) -> str:
        """Commit `files` by their name on the branch, taking `without` away; returns the commit.

        The repository and the branch are made where they are missing.

        Raises:
            NotAllowed: the token may not write there, or the repository is public and was to be private.
            ChexError: the Hub does not answer.
        """
        from huggingface_hub import CommitOperationAdd, CommitOperationCopy, CommitOperationDelete, HfApi

        api = HfApi(token=self.token)

        def commit() -> str:
            api.create_repo(self.repo_id, repo_type=self.repo_type, private=self.private or None, exist_ok=True)
            if self.private and not api.repo_info(self.repo_id, repo_type=self.repo_type).private:
                raise NotAllowed(
                    f"{self.repo_id} is there already and public, which nothing is sent to that was to be private; "
                    "make it private on its page, or choose another name"
                )
            api.create_branch(self.repo_id, branch=self.name, repo_type=self.repo_type, exist_ok=True)
            # Operations are made anew each time: the client marks those it has uploaded.
            operations: list[CommitOperationAdd | CommitOperationCopy | CommitOperationDelete] = [
                *(CommitOperationAdd(name, content) for name, content in sorted(files.items())),
                *(CommitOperationDelete(name) for name in sorted(without)),
            ]
            commit = api.create_commit(
                self.repo_id, operations, commit_message=message, revision=self.name, repo_type=self.repo_type
            )
            return str(commit.oid)

        return self._asked(commit, "saving to its branch")

    def settle(self, progress: RunProgress) -> None:
        """Leave nothing but the last progress: the branch is made anew, so that old states are no longer referred to.

        Raises:
            ChexError: it could not be done.
        """
        from huggingface_hub import HfApi

        api = HfApi(token=self.token)
        self._sought(lambda: api.delete_branch(self.repo_id, branch=self.name, repo_type=self.repo_type), "settling")
        self.send({PROGRESS_FILE: progress.to_json().encode()}, f"Progress of {self.run_id}")

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
            "reading its branch",
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
        """Leave the wish that the run save its state and end.

        Raises:
            ChexError: it could not be done.
        """
        self.send({STOP_FILE: f'{{"asked_at": "{when}"}}\n'.encode()}, f"Ask {self.run_id} to stop")

    def is_asked_to_stop(self) -> bool:
        """Whether somebody left that wish. Not tried again: it is asked every minute anyway.

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
        """Take the wish back, for the run's next session.

        Raises:
            ChexError: it could not be done.
        """
        if self._asked(self.is_asked_to_stop, "reading its branch"):
            self.send({}, f"Let {self.run_id} go on", without=[STOP_FILE])

    def published_at(self) -> str | None:
        """The commit that the run's tag names, where it was published.

        Raises:
            ChexError: the Hub does not answer, or keeps the repository from the token.
        """
        from huggingface_hub import HfApi

        api = HfApi(token=self.token)
        refs = self._sought(lambda: api.list_repo_refs(self.repo_id, repo_type=self.repo_type), "reading its tags")
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
        try:
            return retried(call, what=f"{self.repo_id}: {what}")
        except NotAllowed:
            raise
        except Exception as error:  # each generation of the client lets another HTTP library's errors out
            if status_of(error) in (401, 403):
                refuses = "does not accept the token" if status_of(error) == 401 else "lets the token not write"
                raise NotAllowed(
                    f"the Hub {refuses} (HTTP {status_of(error)} on {what} of {self.repo_id}); make a "
                    "fine-grained one with write access to that repository on https://huggingface.co/settings/tokens"
                ) from None
            after = "try again later" if is_transient(error) else "look at the repository's name"
            raise ChexError(f"the Hub failed on {what} of {self.repo_id}: {reason(error)}; {after}") from error
