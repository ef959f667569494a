"""Creating and updating a Space on the Hugging Face Hub."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from chexvision.app.space_files import Files, Sdk
from chexvision.errors import ChexError, UsageError
from chexvision.files.atomic_folder import atomic_folder
from chexvision.hub.hub_errors import NotAllowed, call_hub
from chexvision.hub.one_commit import commit_files, left_over
from chexvision.hub.reference import RepoRef
from chexvision.hub.repository import create_repository
from chexvision.retry import status_of

if TYPE_CHECKING:
    from huggingface_hub import HfApi

_TITLE = "Deploy "
_COMMITS_BY_OTHERS = 5  # during one deployment


@dataclass(frozen=True, slots=True)
class Deployed:
    """A Space that was deployed.

    Args:
        address: its page.
        commit: of the Space, which has the files.
        changed: whether this deployment made the commit; it had all files before where not.
    """

    address: str
    commit: str
    changed: bool


def deploy(space: str, files: Files, sdk: Sdk, *, private: bool) -> Deployed:
    """Create a Space, or update it in one commit; files of an earlier deployment that are gone are deleted.

    Args:
        space: ``USER/NAME``.
        files: see `chexvision.app.space_files.space_files`.
        sdk: of the Space.
        private: whether only its owner sees it; that of an existing Space is never changed.

    Raises:
        ChexError: the Hub refuses it or does not answer. Nothing of it is visible then.
    """
    from huggingface_hub import HfApi

    api = HfApi()
    try:
        create_repository(space, "space", private=private, sdk=sdk)
    except ChexError as error:
        raise _refused(error, space, sdk) from error
    commit, changed = call_hub(lambda: _commit(api, space, files, sdk), "deploying", RepoRef(space), "space")
    return Deployed(f"{api.endpoint}/spaces/{space}", commit, changed)


def _commit(api: HfApi, space: str, files: Files, sdk: Sdk) -> tuple[str, bool]:
    for _ in range(_COMMITS_BY_OTHERS):
        commits = api.list_repo_commits(space, repo_type="space")
        head = commits[0].commit_id
        gone = left_over(api, space, "space", files, commits, _TITLE)
        made = commit_files(api, space, "space", files, gone, f"{_TITLE}the {sdk} app", head)
        if made is not None:
            return made, made != head
    raise ChexError(f"others committed to {space} {_COMMITS_BY_OTHERS} times during the attempt; deploy it again")


def _refused(error: ChexError, space: str, sdk: Sdk) -> ChexError:
    """The error of a Space that could not be created; Gradio Spaces need a paid plan since July 2026."""
    status = status_of(error)
    if sdk == "gradio" and status == 402:
        return NotAllowed(
            f"the Hub creates Gradio Spaces for paid plans only (HTTP 402) and did not create {space}; deploy the "
            "static page, which is free: --static"
        )
    if sdk == "gradio" and status == 403:
        return NotAllowed(f"{error}. Gradio Spaces need a paid plan, too; the static page does not: --static")
    return error


def is_private(reference: RepoRef) -> bool:
    """Whether a model is seen by its owner alone.

    Raises:
        ChexError: the Hub does not have it, or does not answer.
    """
    from huggingface_hub import HfApi

    return bool(call_hub(lambda: HfApi().repo_info(reference.repo_id).private, "reading the visibility", reference))


def write_files(files: Files, folder: Path) -> None:
    """Write what would be uploaded into a new folder.

    Raises:
        UsageError: it exists and is not empty.
    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise UsageError(f"{folder} exists and is not empty; choose another folder for --dry-run")
    with atomic_folder(folder) as partial:
        for name, content in files.items():
            path = partial / name
            path.parent.mkdir(parents=True, exist_ok=True)
            if isinstance(content, bytes):
                path.write_bytes(content)
            else:
                shutil.copyfile(content, path)
