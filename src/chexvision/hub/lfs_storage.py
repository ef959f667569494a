"""Permanent deletion of LFS files that a branch stored and no reference needs any more.

Neither replacing a file nor deleting a branch frees storage on the Hub: an LFS file counts until it is permanently
deleted. That breaks every commit that refers to it, on any branch, so that all references are checked first: a
published model may be, byte for byte, a state's best weights.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from huggingface_hub import HfApi

_MAIN = "main"


class LfsStorage:
    """The LFS contents of a repository, by their sha256.

    Args:
        repo_id: the repository.
        repo_type: "model" or "dataset".
    """

    def __init__(self, repo_id: str, repo_type: str) -> None:
        self._repo_id = repo_id
        self._repo_type = repo_type
        self._held: dict[str, frozenset[str]] = {}  # by commit; what a commit refers to never changes

    def free(self, api: HfApi, branch: str, uploaded: Iterable[str]) -> int:
        """Delete what `branch` once referred to, or what was uploaded for it, and no reference needs now.

        What the newest commit of any branch or tag refers to is kept, and what any commit of the main branch does,
        since commits may be pinned.

        Args:
            api: the client.
            branch: a branch that began on the main branch.
            uploaded: sha256 of further contents that were uploaded for the branch, committed or not.

        Returns:
            The bytes that were freed.

        Raises:
            Exception: what the Hub's client raised.
        """
        pinned = self._commits(api, _MAIN)
        own = self._commits(api, branch) - pinned
        candidates = set(uploaded).union(*(self._contents(api, commit) for commit in own))
        if not candidates:
            return 0
        refs = api.list_repo_refs(self._repo_id, repo_type=self._repo_type)
        pinned |= {ref.target_commit for ref in (*refs.branches, *refs.tags)}
        candidates = candidates.difference(*(self._contents(api, commit) for commit in pinned))
        if not candidates:
            return 0
        stored = api.list_lfs_files(self._repo_id, repo_type=self._repo_type)
        doomed = [file for file in stored if file.oid in candidates]
        # The branch's own history is all that still refers to them.
        api.permanently_delete_lfs_files(self._repo_id, doomed, rewrite_history=False, repo_type=self._repo_type)
        return sum(file.size for file in doomed)

    def _commits(self, api: HfApi, branch: str) -> set[str]:
        commits = api.list_repo_commits(self._repo_id, revision=branch, repo_type=self._repo_type)
        return {commit.commit_id for commit in commits}

    def _contents(self, api: HfApi, commit: str) -> frozenset[str]:
        if commit not in self._held:
            tree = api.list_repo_tree(self._repo_id, recursive=True, revision=commit, repo_type=self._repo_type)
            files = (getattr(entry, "lfs", None) for entry in tree)
            self._held[commit] = frozenset(lfs.sha256 for lfs in files if lfs is not None)
        return self._held[commit]
