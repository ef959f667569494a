"""A publication on the Hub in one commit, which deletes what an earlier one left and keeps other people's files.

The commit lists its files in its message, by which the next one knows them from the owner's own.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from chexvision.hub.hub_errors import RepoType
from chexvision.retry import status_of

if TYPE_CHECKING:
    from huggingface_hub import GitCommitInfo, HfApi

_LISTED = "- "  # before each file in a publication's commit message


def left_over(
    api: HfApi,
    repo_id: str,
    repo_type: RepoType,
    files: Mapping[str, Path | bytes],
    commits: Sequence[GitCommitInfo],
    title: str,
) -> list[str]:
    """The last publication's files that `files` lack and that were not replaced since.

    Args:
        api: the client.
        repo_id: the repository.
        repo_type: of the repository.
        files: of the publication that is to follow.
        commits: of the main branch, newest first.
        title: how the titles of publications begin.
    """
    last = next((commit for commit in commits if commit.title.startswith(title)), None)
    lines = last.message.splitlines() if last is not None else []
    names = {line.removeprefix(_LISTED) for line in lines if line.startswith(_LISTED)} - files.keys()
    if last is None or not names:
        return []
    then, now = (
        {
            info.path: info
            for info in api.get_paths_info(repo_id, sorted(names), revision=revision, repo_type=repo_type)
        }
        for revision in (last.commit_id, commits[0].commit_id)
    )
    return [name for name in sorted(now) if name in then and _blob(now[name]) == _blob(then[name])]


def commit_files(
    api: HfApi,
    repo_id: str,
    repo_type: RepoType,
    files: Mapping[str, Path | bytes],
    gone: Sequence[str],
    title: str,
    parent: str,
) -> str | None:
    """One commit of `files` that deletes `gone`; None where another commit came first.

    Returns:
        The commit; `parent` where it has all of this already.
    """
    from huggingface_hub import CommitOperationAdd, CommitOperationCopy, CommitOperationDelete
    from huggingface_hub.errors import HfHubHTTPError

    # Made again each time: an operation remembers what its file was replacing in an earlier parent.
    operations: list[CommitOperationAdd | CommitOperationCopy | CommitOperationDelete] = [
        *(CommitOperationAdd(name, content) for name, content in files.items()),
        *(CommitOperationDelete(name) for name in gone),
    ]
    try:
        commit = api.create_commit(
            repo_id,
            operations,
            repo_type=repo_type,
            commit_message=title,
            commit_description="\n".join(f"{_LISTED}{name}" for name in files),
            parent_commit=parent,
        )
    except HfHubHTTPError as error:
        if status_of(error) in (409, 412):
            return None
        raise
    return str(commit.oid)


def _blob(file: object) -> str | None:
    return getattr(file, "blob_id", None)  # a folder has none
