"""TensorBoard's files of a run in its published model, where the Hub shows them as a tab."""

from __future__ import annotations

import logging
import shutil
from pathlib import Path

_EVENTS = "events.out.tfevents."
_FOLDER = "runs"

_log = logging.getLogger(__name__)


def copy_event_files(tracking: Path, model: Path) -> None:
    """Copy the event files of a run into ``runs/`` of a model, without the host's name that is in theirs.

    Where that fails the model is published without them: nothing that a tracker left is an error of the run.

    Args:
        tracking: where the tracker wrote them; there may be none.
        model: folder of the artifact.
    """
    try:
        for number, path in enumerate(sorted(tracking.glob(f"{_EVENTS}*"))):
            (model / _FOLDER).mkdir(exist_ok=True)
            created = path.name.removeprefix(_EVENTS).partition(".")[0]  # TensorBoard reads them in order of names
            shutil.copyfile(path, model / _FOLDER / f"{_EVENTS}{created}.chexvision.{number}")
    except OSError as error:
        shutil.rmtree(model / _FOLDER, ignore_errors=True)
        why = error.strerror or type(error).__name__
        _log.warning("WARNING: the model is published without TensorBoard's files: %s", why)
