"""How a dataset, a model or a destination is named: ``USER/NAME[@REVISION]`` on the Hub, or a folder."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

from chexvision.errors import UsageError

_REPO = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*", re.ASCII)
_REVISION = re.compile(r"(?!.*\.\.)\w[\w./+-]*", re.ASCII)  # branches, tags, shas, refs/pr/1
_SHA = re.compile(r"[0-9a-f]{40}")


@dataclass(frozen=True, slots=True)
class RepoRef:
    """A repository on the Hub, at a revision if one was named."""

    repo_id: str
    revision: str | None = None

    def __str__(self) -> str:
        return f"{self.repo_id}@{self.revision}" if self.revision else self.repo_id

    @property
    def is_pinned(self) -> bool:
        """Whether the revision is a full commit sha, which always names the same bytes."""
        return self.revision is not None and _SHA.fullmatch(self.revision) is not None


Reference: TypeAlias = RepoRef | Path


def pinned_reference(text: str, what: str) -> Reference:
    """Read a folder's path or ``USER/NAME@<sha>``, which always names the same bytes.

    Args:
        text: to read.
        what: the option or key that it is the value of.

    Raises:
        UsageError: there is no such folder, or a repository without a full commit sha is named.
    """
    reference = parse_reference(text)
    if isinstance(reference, Path):
        if not reference.is_dir():
            raise UsageError(f"{what} {text}: no such folder, and not a repository USER/NAME@<sha> either")
    elif not reference.is_pinned:
        raise UsageError(f"{what} {text} is not pinned: name the 40-digit commit sha, {reference.repo_id}@<sha>")
    return reference


def parse_reference(text: str) -> Reference:
    """Read ``USER/NAME[@REVISION]`` or a folder's path.

    A text that starts with ``.``, ``/`` or ``~``, names an existing folder, or has no or several slashes is
    a folder; anything else of the form ``USER/NAME`` is a repository on the Hub.

    Raises:
        UsageError: the text is empty, or ends in @ and something that cannot be a revision.
    """
    if not text:
        raise UsageError("an empty text names neither a folder nor a Hub repository USER/NAME[@REVISION]")
    path = Path(text).expanduser()
    if text[0] in "./~" or path.is_dir():
        return path
    repo_id, at, revision = text.partition("@")
    if _REPO.fullmatch(repo_id):
        if at and not revision:
            raise UsageError(f"{text!r} ends in @ without a revision; write {repo_id}@<sha>")
        if at and not _REVISION.fullmatch(revision):
            raise UsageError(f"{revision!r} cannot be a revision: name a tag, a branch or a commit")
        return RepoRef(repo_id, revision or None)
    return path


def short_names(texts: Sequence[str]) -> list[str]:
    """The shortest ends of paths and references that still differ."""
    parts = [[part for part in text.split("/") if part] or [text] for text in texts]
    for length in range(1, max(map(len, parts), default=0) + 1):
        names = ["/".join(part[-length:]) for part in parts]
        if len(set(names)) == len(names):
            return names
    return list(texts)
