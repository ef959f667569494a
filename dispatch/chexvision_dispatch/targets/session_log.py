"""A session's log, from a service that streams it from the beginning each time, or from a file."""

from __future__ import annotations

import codecs
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from chexvision.errors import ChexError
from chexvision_dispatch.polling import Outage, until_answered
from chexvision_dispatch.targets.target import SessionState

WAIT_S = 10.0  # between polls of a queued session, and before a dropped stream is resumed


def session_log(
    stream: Callable[[bool], Iterable[str]], state: Callable[[], SessionState], *, follow: bool
) -> Iterator[str]:
    """What a session wrote, from its beginning; with `follow` until it ends.

    Args:
        stream: given whether the session has ended, its log from the first line.
        state: what the target reports of the session.
        follow: whether to wait for the end; outages of the target are then waited out.

    Raises:
        ChexError: the target does not answer; with `follow` only where waiting does not help.
    """

    def ask() -> SessionState:
        return until_answered(state) if follow else state()

    shown, outage = 0, Outage()
    while True:
        now = ask()
        if now.phase == "queued":
            if not follow:
                return
            time.sleep(WAIT_S)
            continue
        try:
            for number, text in enumerate(stream(now.ended)):
                outage.over()
                if number >= shown:
                    shown += 1
                    yield text
        except ChexError as error:
            if not follow:
                raise
            outage.wait(error)
            continue
        if not follow or now.ended:
            return
        if not ask().ended:
            time.sleep(WAIT_S)


def file_log(path: Path, lives: Callable[[], bool], poll_s: float, *, follow: bool) -> Iterator[str]:
    """What a session writes into a file, from its beginning; with `follow` until it ends.

    Args:
        path: of the file.
        lives: whether the session has not ended.
        poll_s: seconds between looks at the file.
        follow: whether to wait for the end.

    Raises:
        ChexError: there is no such file.
    """
    decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
    try:
        log = path.open("rb")
    except FileNotFoundError:
        raise ChexError(f"no log in {path.parent}; was the folder moved?") from None
    with log:
        while True:
            ended = not follow or not lives()
            written = log.read()
            if written:
                yield decoder.decode(written)
            elif ended:
                return
            else:
                time.sleep(poll_s)
