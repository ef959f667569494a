"""What an earlier session of a run left, brought to where the next one goes on."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

from chexvision.files.atomic import atomic_path
from chexvision.runs.branch import RunBranch
from chexvision.runs.mounts import attached_files
from chexvision.runs.run_progress import PROGRESS_FILE, RunProgress, read_progress


def restore(run_id: str, work: Path, given: Path, scratch: Path, branch: RunBranch | None) -> None:
    """Bring the furthest state of a run, and its progress, into `work`, unless a state lies there already.

    Args:
        run_id: the run; what other runs left is not looked at.
        work: the folder that the run goes on in.
        given: where outputs of earlier sessions are mounted.
        scratch: folder for downloads that are thrown away.
        branch: the run's branch, if the session can read it.

    Raises:
        ChexError: the branch cannot be read.
    """
    here = read_progress(work, run_id)
    if here is not None and here.state and all((work / name).is_file() for name in here.state):
        return
    with tempfile.TemporaryDirectory(dir=scratch) as fetched:
        places = [path.parent for path in attached_files(given, PROGRESS_FILE)]
        known = [(progress, place) for place in places if (progress := read_progress(place, run_id)) is not None]
        if branch is not None and branch.download([PROGRESS_FILE], Path(fetched)):
            told = read_progress(Path(fetched), run_id)
            # The state may be some GB, which an attached output holds already.
            if told is not None and all(_how_far(told, bool(told.state)) > _rank(one) for one in known):
                branch.download(told.state, Path(fetched))
                known.append((told, Path(fetched)))
        if not known:
            return
        progress, place = max(known, key=_rank)
        for name in (*progress.state, PROGRESS_FILE):  # progress that is there has all it tells of beside it
            if (place / name).is_file():
                with atomic_path(work / name) as written:
                    shutil.copyfile(place / name, written)


def _rank(found: tuple[RunProgress, Path]) -> tuple[bool, int, int, str]:
    progress, place = found
    return _how_far(progress, bool(progress.state) and all((place / name).is_file() for name in progress.state))


def _how_far(progress: RunProgress, there: bool) -> tuple[bool, int, int, str]:
    return there, progress.state_epoch, progress.images_done, progress.updated_at
