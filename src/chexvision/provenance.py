"""Which run this is and which source it computes with."""

from __future__ import annotations

import re
import secrets
import subprocess
from datetime import UTC, datetime
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from chexvision import __version__
from chexvision.errors import UsageError
from chexvision.layout import PACKAGE_DIR

_MODEL_CHARACTERS = 20


class Provenance(BaseModel):
    """Where a run comes from, as ``run.json`` records it.

    Args:
        run_id: such as ``densenet-20260101-1432-3f9c``.
        bundle_sha256: of the packed source; null for a run that was not dispatched.
        source_revision: the commit, or the release's version.
        source_dirty: whether files differed from that commit.
        dispatched_at: ISO 8601 in UTC; null for a run that was not dispatched.
        target: where it was sent, such as "kaggle"; null for a run that was not dispatched.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    run_id: str
    bundle_sha256: str | None = None
    source_revision: str
    source_dirty: bool
    dispatched_at: str | None = None
    target: str | None = None

    @classmethod
    def here(cls, model: str) -> Provenance:
        """Of a run of recipe `model` that starts now, on this machine, from this copy of the source."""
        revision, dirty = source_revision()
        return cls(run_id=new_run_id(model), source_revision=revision, source_dirty=dirty)

    @classmethod
    def read(cls, path: Path) -> Provenance:
        """Read what `chexvision dispatch` wrote.

        Raises:
            UsageError: the file is missing or is not such a file.
        """
        try:
            return cls.model_validate_json(path.read_bytes())
        except (OSError, ValidationError) as error:
            raise UsageError(f"--provenance {path} cannot be read: {error}") from None


def source_revision() -> tuple[str, bool]:
    """The commit or, where it was installed, the version of this copy of the package; and whether files differ."""
    root = PACKAGE_DIR.parent.parent
    if not (root / ".git").exists():
        return __version__, False
    revision = _git(root, "rev-parse", "HEAD")
    changed = _git(root, "status", "--porcelain", "--", "src/chexvision", "configs", "kernels")
    if revision is None or changed is None:
        # A checkout whose state is unknown counts as changed.
        return __version__, True
    return revision, changed != ""


def new_run_id(model: str) -> str:
    """An id that is readable and, within a model, sorts by time: ``densenet-20260101-1432-3f9c``."""
    name = slug(model)[:_MODEL_CHARACTERS].strip("-") or "run"
    return f"{name}-{datetime.now(UTC):%Y%m%d-%H%M}-{secrets.token_hex(2)}"


def slug(text: str) -> str:
    """`text` in the letters, digits and single dashes that kernel addresses and repository names take."""
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")


def now() -> str:
    """This moment in UTC, to the second, as ISO 8601."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def _git(root: Path, *arguments: str) -> str | None:
    command = ["git", "--no-optional-locks", "-C", str(root), *arguments]
    try:
        done = subprocess.run(command, check=True, capture_output=True, text=True, timeout=60)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()
