"""Polling a service that may be unavailable for hours: waiting longer each time, and reporting it once."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import TypeVar

from chexvision import retry
from chexvision.errors import ChexError

FIRST_WAIT_S = 5.0  # each further wait is twice as long
LONGEST_WAIT_S = 120.0
LONGEST_ASKED_S = 3600.0  # of the wait that a server asks for
QUIET_S = 30.0  # an outage that is shorter is not worth a line

T = TypeVar("T")


class Outage:
    """How long to wait while a service fails for transient reasons; stderr gets a line about it and its end."""

    def __init__(self) -> None:
        self._failures = 0
        self._began = 0.0
        self._reported = False

    def wait(self, error: Exception) -> None:
        """Wait after another failure.

        Raises:
            Exception: `error` itself, where waiting does not help.
        """
        if not retry.is_transient(error):
            raise error
        if self._failures == 0:
            self._began = retry.clock()
        asked = retry.asked_wait(error) or 0.0
        backoff = min(LONGEST_WAIT_S, FIRST_WAIT_S * 2.0 ** min(self._failures, 10))
        self._failures += 1
        if not self._reported and retry.clock() - self._began >= QUIET_S:
            self._reported = True
            print(f"{error}. Polling until there is an answer; Ctrl-C detaches", file=sys.stderr, flush=True)
        retry.sleep(max(backoff, min(asked, LONGEST_ASKED_S)))

    def over(self) -> None:
        """The service answered."""
        if self._reported:
            from chexvision.progress import duration

            print(f"answered again after {duration(retry.clock() - self._began)}", file=sys.stderr, flush=True)
        self._failures, self._reported = 0, False


def until_answered(call: Callable[[], T]) -> T:
    """Call until the service answers, however long that takes.

    Args:
        call: something that may be called again after it failed half-way.

    Raises:
        ChexError: what `call` raised, where waiting does not help.
    """
    outage = Outage()
    while True:
        try:
            with retry.single_attempt():
                result = call()
        except ChexError as error:
            outage.wait(error)
        else:
            outage.over()
            return result
