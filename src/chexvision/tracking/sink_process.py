"""The process that owns a tracking library: records come in on stdin, and what was tracked goes out on stdout.

    python -m chexvision.tracking.sink_process MODULE:CLASS FOLDER

The first line of stdin is the run, each other one a record, in JSON. For each record one ``+`` is written, and at a
failure ``!`` and the reason. Whatever the library prints goes nowhere: it may be any amount.
"""

from __future__ import annotations

import faulthandler
import importlib
import json
import os
import re
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import BinaryIO

from chexvision.files.atomic_folder import locked
from chexvision.tracking.sinks import Sink, TrackedRun

# A call of the library that takes longer hangs. Only this ends the process where training was killed meanwhile.
CALL_SECONDS = 120.0
LOCK = ".lock"  # in the folder
_SECRET = re.compile("TOKEN|KEY|SECRET|PASSWORD")


def main(target: str, folder: Path) -> int:
    """Track what stdin brings until its end.

    Args:
        target: ``module:class`` of a `Sink`.
        folder: where the library writes.

    Returns:
        The exit code.
    """
    # The library gets /dev/null in place of these: it may read stdin, and print without an end.
    records, status = os.dup(0), os.dup(1)
    null = os.open(os.devnull, os.O_RDWR)
    for stream in (0, 1, 2):
        os.dup2(null, stream)
    if hasattr(os, "nice"):
        os.nice(10)  # training's threads come first
    try:
        with os.fdopen(records, "rb") as lines:
            _track(target, folder, lines, status)
    except BaseException as error:  # noqa: BLE001 - whatever the library raises, also SystemExit
        os.write(status, f"!{_reason(error)}".encode(errors="replace"))
        return 1
    return 0


def _track(target: str, folder: Path, lines: BinaryIO, status: int) -> None:
    first = lines.readline()
    if not first:
        return
    module, _, name = target.partition(":")
    with ExitStack() as held:
        with _limited():
            folder.mkdir(parents=True, exist_ok=True)
            # The process of a session that was killed may still be tracking what that one had sent.
            held.enter_context(locked(folder / LOCK))
            sink: Sink = getattr(importlib.import_module(module), name)(folder, TrackedRun(**json.loads(first)))
        for line in lines:
            record = json.loads(line)
            # A session that resumes repeats steps that one which was killed had sent.
            if record["step"] > sink.last_step:
                with _limited():
                    sink.log(record["step"], record["values"])
            os.write(status, b"+")
        with _limited():
            sink.close()


@contextmanager
def _limited() -> Iterator[None]:
    """End the process where what is inside hangs, even if it holds the interpreter's lock."""
    faulthandler.dump_traceback_later(CALL_SECONDS, exit=True, file=2)
    yield
    faulthandler.cancel_dump_traceback_later()


def _reason(error: BaseException) -> str:
    """The error on one line, without the values of environment variables that may be secrets."""
    text = " ".join(f"{type(error).__name__}: {error}".split())
    for name, value in os.environ.items():
        if len(value) >= 8 and _SECRET.search(name.upper()):
            text = text.replace(value, "***")
    return re.sub(r"(token=)[^&\s]+", r"\1***", text)[:300]


if __name__ == "__main__":
    # Without the exit handlers of the library, which may hang.
    os._exit(main(sys.argv[1], Path(sys.argv[2])))
