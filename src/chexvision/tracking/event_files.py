"""TensorBoard's files of a run in its published model, where the Hub shows them as a tab."""

from __future__ import annotations

import shutil
from pathlib import Path

_EVENTS = "events.out.tfevents."
_FOLDER = "runs"


def copy_event_files(tracking: Path, model: Path) -> None:
    """Copy the event files of a run into ``runs/`` of a model, without the host's name that is in theirs.

    Args:
        tracking: where the tracker wrote them; there may be none.
        model: folder of the artifact.

    Raises:
        OSError: a file cannot be copied.
    """
    for number, path in enumerate(sorted(tracking.glob(f"{_EVENTS}*"))):
        (model / _FOLDER).mkdir(exist_ok=True)
        created = path.name.removeprefix(_EVENTS).partition(".")[0]  # TensorBoard reads files in the order of names
        shutil.copyfile(path, model / _FOLDER / f"{_EVENTS}{created}.chexvision.{number}")
