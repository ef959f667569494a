"""How a dataset, a model or a destination is named: ``USER/NAME[@REVISION]`` on the Hub, or a folder."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

from chexvision.errors import UsageError

_REPO = re.compile(r"^[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*$")
_SHA = re.compile(r"^[0-9a-f]{40}$")


@dataclass(frozen=True, slots=True)
class RepoRef:
    """A repository on the Hub, at a revision if one was named."""

    repo_id: str
    revision: str | None = None

    def __str__(self) -> str:
        return f"{self.repo_id}@{self.revision}" if self.revision else self.repo_id

    @property
    def is_pinned(self) -> bool:
        """Whether the revision is a full commit sha, which names the same bytes for ever."""
        return self.revision is not None and _SHA.match(self.revision) is not None


Reference: TypeAlias = RepoRef | Path


def parse_reference(text: str) -> Reference:
    """Read ``USER/NAME[@REVISION]`` or a folder's path.

    A text that starts with ``.``, ``/`` or ``~``, names an existing folder, or has no or several slashes is
    a folder; anything else of the form ``USER/NAME`` is a repository on the Hub.

    Raises:
        UsageError: the text is empty, or names a revision of something that is no repository.
    """
    if not text:
        raise UsageError("an empty text names neither a folder nor a Hub repository USER/NAME[@REVISION]")
    path = Path(text).expanduser()
    if text[0] in "./~" or path.is_dir():
        return path
    repo_id, at, revision = text.partition("@")
    if _REPO.match(repo_id):
        if at and not revision:
            raise UsageError(f"{text!r} ends in @ without a revision; write {repo_id}@<sha>")
        return RepoRef(repo_id, revision or None)
    return path
