"""What a worker prints reaches the command, also what it prints last; no cluster is started."""

from __future__ import annotations

import sys
from types import SimpleNamespace

import pytest
from ray.exceptions import ActorDiedError

from chexvision.cluster.desk import show_on


class SlowDesk:
    """A desk to which lines are under way until somebody waits for them."""

    def __init__(self) -> None:
        self.under_way: list[tuple[int, str, str]] = []
        self.shown: list[tuple[str, str]] = []
        self.write = SimpleNamespace(remote=self._send)

    def _send(self, stream: str, text: str) -> int:
        self.under_way.append((len(self.under_way), stream, text))
        return len(self.under_way) - 1

    def get(self, calls: list[int], timeout: float) -> None:
        """As ``ray.get``: calls of one process to an actor arrive in their order."""
        assert timeout > 0
        self.shown += [(stream, text) for number, stream, text in self.under_way if number <= max(calls, default=-1)]


@pytest.mark.parametrize("fails", [False, True])
def test_a_worker_ends_after_its_last_lines_have_arrived(monkeypatch: pytest.MonkeyPatch, fails: bool) -> None:
    desk = SlowDesk()
    monkeypatch.setattr("ray.get", desk.get)
    try:
        with show_on(desk, None):
            print("validation: 0.8", flush=True)
            print("a warning", file=sys.stderr)
            print("artifact: here", end="")
            if fails:
                raise RuntimeError("fails")
    except RuntimeError:
        assert fails
    of = {stream: "".join(text for name, text in desk.shown if name == stream) for stream in ("stdout", "stderr")}
    assert of == {"stdout": "validation: 0.8\nartifact: here", "stderr": "a warning\n"}


def test_a_worker_ends_without_the_command(monkeypatch: pytest.MonkeyPatch) -> None:
    def gone(calls: list[int], timeout: float) -> None:
        raise ActorDiedError

    monkeypatch.setattr("ray.get", gone)
    desk, ended = SlowDesk(), False
    with show_on(desk, None):
        print("nobody reads this")
        ended = True
    assert ended and [text for _, _, text in desk.under_way] == ["nobody reads this\n"] and not desk.shown
