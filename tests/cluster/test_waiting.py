"""A command that waits for a cluster with too little says so once."""

from __future__ import annotations

import pytest

from chexvision.cluster import waiting
from chexvision.cluster.waiting import Room


class Nodes:
    """Stands for a cluster whose nodes join and leave, and for a clock."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.has: list[dict[str, float]] = []

    def after(self, seconds: float, room: Room) -> None:
        """Let time pass while a command looks every second."""
        for _ in range(int(seconds)):
            self.now += 1
            room.look()


@pytest.fixture
def nodes(monkeypatch: pytest.MonkeyPatch) -> Nodes:
    made = Nodes()
    monkeypatch.setattr(waiting, "alive_nodes", lambda: made.has)
    monkeypatch.setattr("time.monotonic", lambda: made.now)
    return made


def test_nodes_with_less_than_a_task_needs_are_told_once(nodes: Nodes, capsys: pytest.CaptureFixture[str]) -> None:
    room = Room("a shard", {"CPU": 1, "GPU": 0})
    nodes.has = [{"CPU": 0.5}, {"memory": 1.0}]
    nodes.after(8, room)
    assert capsys.readouterr().err == ""  # nodes may be on their way
    nodes.after(600, room)
    said = "waiting: a shard needs 1 CPU of a node, and the nodes of the cluster have 0.5 CPU, 0 CPU; add nodes with"
    assert capsys.readouterr().err == f"{said}: ray start --address HOST:PORT\n"
    nodes.has.append({"CPU": 1.0})
    nodes.after(600, room)
    assert capsys.readouterr().err == ""
    nodes.has.pop()
    nodes.after(600, room)
    assert capsys.readouterr().err.count("waiting: ") == 1


def test_workers_are_counted_on_all_nodes(nodes: Nodes, capsys: pytest.CaptureFixture[str]) -> None:
    nodes.has = [{"CPU": 8.0, "GPU": 2.0}, {"CPU": 1.0, "GPU": 4.0}]
    nodes.after(600, Room("workers", {"GPU": 1, "CPU": 1}, 3))
    assert capsys.readouterr().err == ""
    nodes.after(600, Room("workers", {"GPU": 1, "CPU": 1}, 4))
    assert "4 workers need 1 GPU and 1 CPU each of a node" in capsys.readouterr().err


def test_a_cluster_without_nodes_is_told(nodes: Nodes, capsys: pytest.CaptureFixture[str]) -> None:
    nodes.after(600, Room("a shard", {"CPU": 1}))
    assert "the nodes of the cluster have nothing" in capsys.readouterr().err
