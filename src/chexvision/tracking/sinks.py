"""The tracking libraries, each behind the same two calls. Imported in the process of `sink_process` alone.

Nothing leaves the machine unless environment variables of the library say so: ``TRACKIO_SPACE_ID`` or
``TRACKIO_SERVER_URL``, and ``WANDB_MODE=online``.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from chexvision.files.atomic import write_text_atomic

PROJECT = "chexvision"


@dataclass(frozen=True, slots=True)
class TrackedRun:
    """What is tracked.

    Args:
        run_id: of the run, and its name in the library.
        group: the recipe's name.
        config: the recipe, in JSON's types.
    """

    run_id: str
    group: str
    config: dict[str, Any]


class Sink(Protocol):
    """A tracking library with one run open.

    Attributes:
        last_step: the last one that earlier sessions of the run tracked; -1 for a new run.
    """

    last_step: int

    def log(self, step: int, values: Mapping[str, float]) -> None:
        """Track the values of an optimization step."""
        ...

    def close(self) -> None:
        """End the run, with everything written."""
        ...


class TrackioSink:
    """trackio: an SQLite file in the folder, a Space, or a server."""

    def __init__(self, folder: Path, run: TrackedRun) -> None:
        os.environ.setdefault("TRACKIO_DIR", str(folder))
        if not os.environ.get("TRACKIO_SPACE_ID"):
            # Else it asks the Hub for the user's name, which it stores with the configuration.
            os.environ["HF_HUB_OFFLINE"] = "1"
        import trackio

        self._trackio: Any = trackio  # has no annotations of its own
        opened = trackio.init(
            PROJECT,
            name=run.run_id,
            group=run.group,
            config=run.config,
            resume="allow",
            embed=False,
            auto_log_gpu=False,
            auto_log_cpu=False,
        )
        # The only place where it tells the step that it resumes at, of a file as well as of a server.
        self.last_step: int = opened._next_step - 1

    def log(self, step: int, values: Mapping[str, float]) -> None:
        """Track the values of an optimization step."""
        self._trackio.log(dict(values), step=step)

    def close(self) -> None:
        """Write or send everything."""
        self._trackio.finish()


class TensorBoardSink:
    """TensorBoard's event files, written without torch and TensorFlow."""

    def __init__(self, folder: Path, run: TrackedRun) -> None:
        from tensorboard.compat.proto import event_pb2, summary_pb2
        from tensorboard.plugins.text.summary_v2 import text_pb
        from tensorboard.summary.writer.event_file_writer import EventFileWriter

        self._event, self._summary = event_pb2.Event, summary_pb2.Summary
        self.last_step = _last_event(folder)
        self._writer = EventFileWriter(str(folder))
        if self.last_step < 0:
            self._add(0, text_pb("recipe", f"```json\n{json.dumps(run.config, indent=2)}\n```"))

    def log(self, step: int, values: Mapping[str, float]) -> None:
        """Track the values of an optimization step."""
        scalar = self._summary.Value
        self._add(step, self._summary(value=[scalar(tag=name, simple_value=one) for name, one in values.items()]))

    def close(self) -> None:
        """Close the file."""
        self._writer.close()

    def _add(self, step: int, summary: Any) -> None:
        self._writer.add_event(self._event(wall_time=time.time(), step=step, summary=summary))
        self._writer.flush()


class WandbSink:
    """Weights & Biases, offline unless ``WANDB_MODE`` says otherwise; it never asks for a login."""

    def __init__(self, folder: Path, run: TrackedRun) -> None:
        os.environ.setdefault("WANDB_MODE", "offline")
        os.environ.setdefault("WANDB_ERROR_REPORTING", "false")
        import wandb

        # Values only: no command line, code, host, packages or output.
        settings = wandb.Settings(
            console="off",
            disable_code=True,
            disable_git=True,
            host="",
            silent=True,
            x_disable_machine_info=True,
            x_disable_meta=True,
            x_disable_stats=True,
            x_save_requirements=False,
        )
        self._run = wandb.init(
            project=PROJECT,
            id=run.run_id,
            name=run.run_id,
            group=run.group,
            dir=str(folder),
            config=run.config,
            resume="allow",
            settings=settings,
        )
        # Offline nothing but this file tells what earlier sessions tracked.
        self._position = folder / "wandb-step.txt"
        if self._run.offline:
            self.last_step = int(self._position.read_text()) if self._position.is_file() else -1
        else:
            self.last_step = self._run.step - 1

    def log(self, step: int, values: Mapping[str, float]) -> None:
        """Track the values of an optimization step."""
        self._run.log(dict(values), step=step)
        write_text_atomic(self._position, str(step))

    def close(self) -> None:
        """Write or send everything."""
        self._run.finish()


def _last_event(folder: Path) -> int:
    """The largest step in the event files of a folder; -1 without any. A file that was cut off is read to the cut."""
    from tensorboard.backend.event_processing.event_file_loader import EventFileLoader

    files = sorted(folder.glob("events.out.tfevents.*"))
    steps = (event.step for path in files for event in EventFileLoader(str(path)).Load() if event.HasField("summary"))
    return max(steps, default=-1)
