"""The state of an earlier session of a run, copied to the folder in which the next one continues."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

from chexvision.files.atomic import atomic_path
from chexvision.runs.branch import RunBranch
from chexvision.runs.mounts import attached_files
from chexvision.runs.run_progress import PROGRESS_FILE, RunProgress, read_progress


def restore(run_id: str, work: Path, given: Path, scratch: Path, branch: RunBranch | None) -> None:
    """Copy the most advanced state of a run, and its progress, into `work`, unless a state is there already.

    Args:
        run_id: the run; the files of other runs are ignored.
        work: the folder in which the run continues.
        given: where outputs of earlier sessions are mounted.
        scratch: folder for temporary downloads.
        branch: the run's branch, if the session can read it.

    Raises:
        ChexError: the branch cannot be read.
    """
    here = read_progress(work, run_id)
    if here is not None and here.state and all((work / name).is_file() for name in here.state):
        return
    with tempfile.TemporaryDirectory(dir=scratch) as fetched:
        folders = [path.parent for path in attached_files(given, PROGRESS_FILE)]
        known = [(progress, folder) for folder in folders if (progress := read_progress(folder, run_id)) is not None]
        if branch is not None and branch.download([PROGRESS_FILE], Path(fetched)):
            reported = read_progress(Path(fetched), run_id)
            # The state may be some GB, which an attached output holds already.
            if reported is not None and all(_position(reported, bool(reported.state)) > _rank(one) for one in known):
                branch.download(reported.state, Path(fetched))
                known.append((reported, Path(fetched)))
        if not known:
            return
        progress, folder = max(known, key=_rank)
        for name in (*progress.state, PROGRESS_FILE):  # the state files are next to their progress
            if (folder / name).is_file():
                with atomic_path(work / name) as written:
                    shutil.copyfile(folder / name, written)


def _rank(found: tuple[RunProgress, Path]) -> tuple[bool, int, int, str]:
    progress, folder = found
    return _position(progress, bool(progress.state) and all((folder / name).is_file() for name in progress.state))


def _position(progress: RunProgress, there: bool) -> tuple[bool, int, int, str]:
    return there, progress.state_epoch, progress.images_done, progress.updated_at
