"""Faults that a fake server injects on demand, each a given number of times."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal

Match = Callable[[str], bool] | str


@dataclass(frozen=True, slots=True)
class Fault:
    """A kind of failure; make it with `status`, `disconnect` or `lose_response`."""

    kind: Literal["status", "disconnect-request", "disconnect-response", "lose-response"]
    code: int = 0
    after_bytes: int = 0
    headers: dict[str, str] = field(default_factory=dict)
    message: str = "fault on demand"

    @classmethod
    def status(cls, code: int, *, retry_after: int | None = None, message: str = "fault on demand") -> Fault:
        """Answer with an error instead of handling the request."""
        headers = {} if retry_after is None else {"Retry-After": str(retry_after)}
        return cls("status", code=code, headers=headers, message=message)

    @classmethod
    def disconnect(cls, after_bytes: int, *, during: Literal["request", "response"] = "response") -> Fault:
        """Close the connection after so many bytes of the body.

        During the request, it has no effect on the server. During the response, it has; at least one byte
        of the response is always missing, and a response without a body is not sent at all.
        """
        return cls("disconnect-request" if during == "request" else "disconnect-response", after_bytes=after_bytes)

    @classmethod
    def lose_response(cls) -> Fault:
        """Let the request take effect, then close the connection without a response."""
        return cls("lose-response")


@dataclass(slots=True)
class Rule:
    """A fault, the requests it applies to, and how often it fired."""

    match: Match
    action: Fault
    times: int
    fired: int = 0

    def applies_to(self, line: str) -> bool:
        if self.fired >= self.times:
            return False
        return self.match(line) if callable(self.match) else re.search(self.match, line) is not None


class Faults:
    """The pending faults of a server."""

    def __init__(self) -> None:
        self.rules: list[Rule] = []
        self._lock = threading.Lock()

    def add(self, match: Match, action: Fault, *, times: int = 1) -> Rule:
        """Apply a fault to the next `times` requests whose `METHOD path?query` satisfies `match`.

        Args:
            match: A regular expression to search for in that line, or a function of it.
            action: The fault.
            times: The number of requests.

        Returns:
            The rule; its `fired` counts the affected requests.
        """
        rule = Rule(match, action, times)
        with self._lock:
            self.rules.append(rule)
        return rule

    def take(self, line: str) -> Fault | None:
        """The fault for a request, if any is left for it; it counts as fired."""
        with self._lock:
            for rule in self.rules:
                if rule.applies_to(line):
                    rule.fired += 1
                    return rule.action
        return None
