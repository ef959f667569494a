"""What a dispatch needs, checked one by one."""

from __future__ import annotations

import os
import platform
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from importlib import util
from pathlib import Path

from chexvision.config.recipe import Recipe
from chexvision.errors import ChexError
from chexvision.hub.account import NEW_TOKEN_PAGE, machine_token
from chexvision.hub.reference import RepoRef, parse_reference
from chexvision.hub.repository import resolve_revision
from chexvision.layout import cache_dir
from chexvision_dispatch.bundle import pack
from chexvision_dispatch.run_records import runs_dir
from chexvision_dispatch.script import SIZE_LIMIT
from chexvision_dispatch.targets import kaggle_client as client
from chexvision_dispatch.targets.slurm_commands import ask, check_commands

_LEAST_DISK = 5 * 2**30


@dataclass(frozen=True, slots=True)
class Finding:
    """What one check found.

    Args:
        name: of what was checked.
        ok: whether it is good enough.
        needed: whether a dispatch cannot do without it.
        note: what was found, and where it is not, the remedy.
    """

    name: str
    ok: bool
    needed: bool
    note: str


def examine(recipe: Recipe) -> list[Finding]:
    """Check this machine, both accounts, and the dataset of `recipe`. Nothing is changed anywhere."""
    return [
        Finding("Python", True, True, platform.python_version()),
        _disk(),
        _records(),
        _torch(),
        _checked("Kaggle", _kaggle, needed=True),
        _checked("Hub token", _hub, needed=False),
        _checked("Slurm", _slurm, needed=False),
        _checked("dataset", lambda: _dataset(recipe), needed=True),
        _checked("bundle", _bundle, needed=True),
    ]


def _checked(name: str, check: Callable[[], tuple[bool, str]], *, needed: bool) -> Finding:
    try:
        ok, note = check()
    except ChexError as error:
        ok, note = False, str(error)
    except OSError as error:  # such as a home folder that cannot be read
        ok, note = False, f"{error.strerror or error}{f': {error.filename}' if error.filename else ''}"
    return Finding(name, ok, needed, note)


def _disk() -> Finding:
    place = _nearest(cache_dir())
    free = shutil.disk_usage(place).free
    ok = free >= _LEAST_DISK
    remedy = "" if ok else f"; at least {_LEAST_DISK / 2**30:.0f} GB are needed: free some or set CHEXVISION_CACHE"
    return Finding("disk", ok, False, f"{free / 2**30:.0f} GB free in {place}{remedy}")


def _records() -> Finding:
    runs = runs_dir()
    place = _nearest(runs)
    try:
        with tempfile.TemporaryFile(dir=place):
            return Finding("records", True, True, f"{runs} can be written to")
    except OSError as error:
        note = f"{runs} cannot be written to ({error.strerror}); set CHEXVISION_STATE to a folder that can"
        return Finding("records", False, True, note)


def _nearest(path: Path) -> Path:
    """`path`, or what exists of it."""
    # Not Path.exists, which raises where a folder above may not be read.
    return next(one for one in (path, *path.parents) if os.path.exists(one))  # noqa: PTH110


def _torch() -> Finding:
    if util.find_spec("torch") is None:
        return Finding("torch", False, False, "not installed; only to train here: pip install 'chexvision[train]'")
    import torch

    gpus = [torch.cuda.get_device_name(number) for number in range(torch.cuda.device_count())]
    return Finding("torch", True, False, f"{torch.__version__}, {', '.join(gpus) or 'no GPU: trains slowly here'}")


def _kaggle() -> tuple[bool, str]:
    api, user = client.log_in()
    quota = client.gpu_quota(api)
    if quota is None:
        return True, f"logged in as {user}; Kaggle names no GPU quota"
    phone = "" if quota.ever_run else f"; {user} {client.NEVER_RUN}"
    return quota.left > 0, f"logged in as {user}, {quota}{phone}"


def _slurm() -> tuple[bool, str]:
    if shutil.which("sbatch") is None:
        return False, "no sbatch on this machine; only for --on slurm, from a login node of a cluster"
    check_commands()
    return True, ask("sbatch", "--version").strip()


def _hub() -> tuple[bool, str]:
    token = machine_token()
    if token is None:
        return False, "none on this machine; log in with `hf auth login`"
    remedy = "" if token.may_write else f"; publishing needs one that may write: {NEW_TOKEN_PAGE}"
    return token.may_write, f"{token}{remedy}"


def _dataset(recipe: Recipe) -> tuple[bool, str]:
    found = [_one_dataset(one.name) for one in recipe.data.named]
    return all(ok for ok, _ in found), "; ".join(note for _, note in found)


def _one_dataset(name: str) -> tuple[bool, str]:
    reference = parse_reference(name)
    if not isinstance(reference, RepoRef):
        return reference.is_dir(), f"the folder {reference}{'' if reference.is_dir() else ' is not there'}"
    found = resolve_revision(reference, "dataset", attempts=1)
    pinned = "" if reference.is_pinned else f", now at {found.revision}"
    return True, f"{reference}{pinned}"


def _bundle() -> tuple[bool, str]:
    size = len(pack().archive) * 5 / 4
    room = f"{size / 1024:.0f} kB packed, a kernel may have {SIZE_LIMIT / 1024:.0f}"
    return size < SIZE_LIMIT, room if size < SIZE_LIMIT else f"{room}; move large files out of src, configs, kernels"
