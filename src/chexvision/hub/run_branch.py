"""A run's branch of its model repository: its progress, the state to resume from, and the wish that it stop.

The branch is ``run/<run id>``. Nothing of it shows on ``main``. Once the run is published only its progress is kept.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from pathlib import Path
from typing import Literal, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from chexvision.errors import ChexError
from chexvision.files import atomic_path
from chexvision.hub.retry import is_transient, reason, retried, status_of

PROGRESS_FILE = "progress.json"
STATE_FILE = "state.pt"
BEST_FILE = "best.safetensors"
STOP_FILE = "stop.json"

# What a session goes on from, and what it may lack: before the first epoch ends there are no best weights.
STATE_FILES = (STATE_FILE, BEST_FILE)

Status = Literal["starting", "training", "paused", "complete", "failed"]
T = TypeVar("T")


class _Record(BaseModel):
    model_config = ConfigDict(extra="ignore", frozen=True)


class EpochPoint(_Record):
    """One point of the curve. `macro_auroc` is null where no finding had both kinds of image."""

    epoch: int  # from 1
    train_loss: float
    validation_loss: float
    macro_auroc: float | None


class RunProgress(_Record):
    """``progress.json``: what a run says of itself.

    Args:
        run_id: whose it is.
        status: "starting" until the first epoch of a session begins; "paused" with a state to resume from;
            "complete" once the artifact is whole, published or not.
        session: number of the session that wrote this, from 1.
        epoch: epochs that ended.
        epochs: epochs of the recipe; null until training begins.
        best_epoch: the one with the best macro AUROC so far.
        best_macro_auroc: of validation.
        seconds_left: an estimate for the epochs left; null where nothing was timed yet.
        updated_at: ISO 8601 in UTC.
        note: why the run paused or failed.
        points: of the epochs that ended.
        artifact: sha256 of every file of the complete artifact, by name.
        published: where it can be had, ``ADDRESS@REVISION``; null where it was not published.
    """

    run_id: str
    status: Status
    session: int
    epoch: int = 0
    epochs: int | None = None
    best_epoch: int | None = None
    best_macro_auroc: float | None = None
    seconds_left: float | None = None
    updated_at: str
    note: str = ""
    points: tuple[EpochPoint, ...] = ()
    artifact: dict[str, str] = {}
    published: str | None = None

    def to_json(self) -> str:
        """The text of a ``progress.json``."""
        return self.model_dump_json(indent=2) + "\n"


def read_progress(folder: Path, run_id: str | None = None) -> RunProgress | None:
    """The progress that lies in `folder`; None where there is none, or none of run `run_id` where one is named."""
    try:
        progress = RunProgress.model_validate_json((folder / PROGRESS_FILE).read_bytes())
    except (OSError, ValidationError):
        return None
    return progress if run_id in (None, progress.run_id) else None


class NotAllowed(ChexError):
    """The token is wrong, expired, or may not write there; trying again will not help."""


class RunBranch:
    """The branch of one run.

    Args:
        repo_id: the model repository that the run publishes to.
        run_id: the run.
        token: of the Hub; the user's own where left out.
    """

    def __init__(self, repo_id: str, run_id: str, token: str | None = None) -> None:
        self.repo_id = repo_id
        self.run_id = run_id
        self.token = token
        self.name = f"run/{run_id}"

    def send(self, files: Mapping[str, Path | bytes], message: str, without: Iterable[str] = ()) -> str:
        """Commit `files` by their name on the branch, taking `without` away; returns the commit.

        The repository and the branch are made where they are missing.

        Raises:
            NotAllowed: the token may not write there.
            ChexError: the Hub does not answer.
        """
        from huggingface_hub import CommitOperationAdd, CommitOperationCopy, CommitOperationDelete, HfApi

        api = HfApi(token=self.token)

        def commit() -> str:
            api.create_repo(self.repo_id, exist_ok=True)
            api.create_branch(self.repo_id, branch=self.name, exist_ok=True)
            # Operations are made anew each time: the client marks those it has uploaded.
            operations: list[CommitOperationAdd | CommitOperationCopy | CommitOperationDelete] = [
                *(CommitOperationAdd(name, content) for name, content in sorted(files.items())),
                *(CommitOperationDelete(name) for name in sorted(without)),
            ]
            return str(api.create_commit(self.repo_id, operations, commit_message=message, revision=self.name).oid)

        return self._asked(commit, "saving to its branch")

    def settle(self, progress: RunProgress) -> None:
        """Leave nothing but the last progress: the branch is made anew, so that old states are no longer referred to.

        Raises:
            ChexError: it could not be done.
        """
        from huggingface_hub import HfApi

        api = HfApi(token=self.token)
        self._asked(lambda: self._found(lambda: api.delete_branch(self.repo_id, branch=self.name)), "settling")
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
        sha = self._asked(
            lambda: self._found(lambda: api.repo_info(self.repo_id, revision=self.name).sha), "reading its branch"
        )
        if sha is None:
            return []
        brought = []
        with tempfile.TemporaryDirectory(dir=folder) as aside:
            for name in names:
                download = partial(
                    hf_hub_download, self.repo_id, name, revision=sha, local_dir=aside, token=self.token
                )
                path = self._asked(partial(self._found, download), f"fetching {name}")
                if path is not None:
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
        return bool(self._found(lambda: api.file_exists(self.repo_id, STOP_FILE, revision=self.name)))

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
        refs = self._asked(lambda: self._found(lambda: api.list_repo_refs(self.repo_id)), "reading its tags")
        return next((tag.target_commit for tag in refs.tags if tag.name == self.run_id), None) if refs else None

    def _found(self, call: Callable[[], T]) -> T | None:
        """What `call` returns; None where there is no such repository, branch or file."""
        from huggingface_hub.errors import EntryNotFoundError, RepositoryNotFoundError, RevisionNotFoundError

        try:
            return call()
        except (EntryNotFoundError, RepositoryNotFoundError, RevisionNotFoundError):
            return None

    def _asked(self, call: Callable[[], T], what: str) -> T:
        try:
            return retried(call, what=f"{self.repo_id}: {what}")
        except Exception as error:  # each generation of the client lets another HTTP library's errors out
            if status_of(error) in (401, 403):
                refuses = "does not accept the token" if status_of(error) == 401 else "lets the token not write"
                raise NotAllowed(
                    f"the Hub {refuses} (HTTP {status_of(error)} on {what} of {self.repo_id}); make a "
                    "fine-grained one with write access to that repository on https://huggingface.co/settings/tokens"
                ) from None
            after = "try again later" if is_transient(error) else "look at the repository's name"
            raise ChexError(f"the Hub failed on {what} of {self.repo_id}: {reason(error)}; {after}") from error


_MOUNTS = (f"*/{PROGRESS_FILE}", f"*/*/*/{PROGRESS_FILE}")  # below ../input: by slug, or by kind, owner and slug


def restore(run_id: str, work: Path, given: Path, scratch: Path, branch: RunBranch | None) -> None:
    """Bring the furthest state of a run, and its progress, into `work`, unless a state lies there already.

    Args:
        run_id: the run; what other runs left is not looked at.
        work: the folder that training goes on in.
        given: where outputs of earlier sessions are mounted.
        scratch: folder for downloads that are thrown away.
        branch: the run's branch, if the session can read it.

    Raises:
        ChexError: the branch cannot be read.
    """
    if (work / STATE_FILE).is_file():
        return
    with tempfile.TemporaryDirectory(dir=scratch) as fetched:
        places = sorted({path.parent for pattern in _MOUNTS for path in given.glob(pattern)})
        if branch is not None and branch.bring([PROGRESS_FILE, *STATE_FILES], Path(fetched)):
            places.append(Path(fetched))
        known = [(progress, place) for place in places if (progress := read_progress(place, run_id)) is not None]
        if not known:
            return
        _, place = max(known, key=lambda one: ((one[1] / STATE_FILE).is_file(), one[0].epoch, one[0].updated_at))
        for name in (BEST_FILE, PROGRESS_FILE, STATE_FILE):  # a state that is there has all it needs beside it
            if (place / name).is_file():
                with atomic_path(work / name) as written:
                    shutil.copyfile(place / name, written)
