"""Faults that a fake server commits on demand, each a given number of times."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal

Match = Callable[[str], bool] | str


@dataclass(frozen=True, slots=True)
class Fault:
    """One way of going wrong; make it with `status`, `cut` or `lose_answer`."""

    kind: Literal["status", "cut-request", "cut-response", "lose-answer"]
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
    def cut(cls, after_bytes: int, *, during: Literal["request", "response"] = "response") -> Fault:
        """Close the connection after so many bytes of the body.

        Cut in the request, it has no effect on the server. Cut in the response, it has; at least one byte
        of the answer is always missing, and an answer without a body is not sent at all.
        """
        return cls("cut-request" if during == "request" else "cut-response", after_bytes=after_bytes)

    @classmethod
    def lose_answer(cls) -> Fault:
        """Let the request take effect, then close the connection without a word."""
        return cls("lose-answer")


@dataclass(slots=True)
class Rule:
    """A fault, what it strikes, and how often it did."""

    match: Match
    action: Fault
    times: int
    fired: int = 0

    def strikes(self, line: str) -> bool:
        if self.fired >= self.times:
            return False
        return self.match(line) if callable(self.match) else re.search(self.match, line) is not None


class Faults:
    """The faults a server has in store."""

    def __init__(self) -> None:
        self.rules: list[Rule] = []
        self._lock = threading.Lock()

    def add(self, match: Match, action: Fault, *, times: int = 1) -> Rule:
        """Strike the next `times` requests whose `METHOD path?query` satisfies `match`.

        Args:
            match: A regular expression to search for in that line, or a function of it.
            action: What goes wrong.
            times: How often.

        Returns:
            The rule; its `fired` counts the strikes.
        """
        rule = Rule(match, action, times)
        with self._lock:
            self.rules.append(rule)
        return rule

    def take(self, line: str) -> Fault | None:
        """The fault for a request, if any is left for it; it counts as fired."""
        with self._lock:
            for rule in self.rules:
                if rule.strikes(line):
                    rule.fired += 1
                    return rule.action
        return None
