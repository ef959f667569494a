"""A message where a cluster has no room for what is to run on it: Ray itself waits without one."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping, Sequence
from typing import Any

from chexvision.cluster.connect import ray_module

_LOOK_SECONDS = 5.0  # between two looks at the nodes; also whoever waits for results looks up so often
_PATIENCE_SECONDS = 10.0  # nodes that are being started, or replaced, join meanwhile


class Room:
    """Whether the nodes of the cluster that this process is connected to have room for tasks.

    Args:
        what: is to run, such as "a task that makes a shard".
        needs: of a node, by Ray's names: ``{"CPU": 1}``.
        count: how many have to run at once.
    """

    def __init__(self, what: str, needs: Mapping[str, float], count: int = 1) -> None:
        self._what = what
        self._needs = {name: amount for name, amount in needs.items() if amount > 0}
        self._count = count
        self._looked = -_LOOK_SECONDS
        self._lacking_since: float | None = None
        self._told = False

    def wait(self, references: Sequence[Any]) -> list[Any]:
        """One of the references that is ready, or none after some seconds, see `look`."""
        ready: list[Any] = ray_module().wait([*references], timeout=_LOOK_SECONDS)[0]
        if not ready:
            self.look()
        return ready

    def look(self) -> None:
        """Print one line on stderr where there has been no room for some time; call it as often as you like."""
        now = time.monotonic()
        if now - self._looked < _LOOK_SECONDS:
            return
        self._looked = now
        nodes = alive_nodes()
        if sum(self._fitting(node) for node in nodes) >= self._count:
            self._lacking_since, self._told = None, False
            return
        self._lacking_since = now if self._lacking_since is None else self._lacking_since
        if not self._told and now - self._lacking_since >= _PATIENCE_SECONDS:
            self._told = True
            print(f"waiting: {self._lack(nodes)}; add nodes with: ray start --address HOST:PORT", file=sys.stderr)

    def _fitting(self, node: Mapping[str, float]) -> int:
        return min(int(node.get(name, 0) // amount) for name, amount in self._needs.items())

    def _lack(self, nodes: Sequence[Mapping[str, float]]) -> str:
        each = " and ".join(f"{amount:g} {name}" for name, amount in self._needs.items())
        have = ", ".join(
            " and ".join(f"{node.get(name, 0):g} {name}" for name in self._needs) for node in nodes[:8]
        ) + (", …" if len(nodes) > 8 else "")
        need = f"{self._what} needs {each}" if self._count == 1 else f"{self._count} {self._what} need {each} each"
        return f"{need} of a node, and the nodes of the cluster have {have or 'nothing'}"


def alive_nodes() -> list[dict[str, float]]:
    """What each node that is alive has, by Ray's names."""
    return [node["Resources"] for node in ray_module().nodes() if node["Alive"]]
