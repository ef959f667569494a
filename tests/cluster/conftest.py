"""A Ray cluster of two nodes on loopback, whose worker node can be killed."""

from __future__ import annotations

import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

_STORE = 80 << 20  # bytes of the object store of a node; Ray takes 75 MB at least


class TwoNodes:
    """A head node and worker nodes with 1 CPU each; `address` is for ``connected`` and ``--address``."""

    def __init__(self) -> None:
        from ray.cluster_utils import Cluster

        arguments = {
            "node_ip_address": "127.0.0.1",
            "num_cpus": 1,
            "object_store_memory": _STORE,
            "include_dashboard": False,
        }
        self._cluster: Any = _started(lambda: Cluster(initialize_head=True, head_node_args=arguments))
        self.address: str = self._cluster.address
        self.head: Any = self._cluster.head_node
        try:
            self.worker = self.join()
        except BaseException:
            self.stop()
            raise

    def join(self) -> Any:
        """Add a node, which becomes `worker`; call it in the main thread."""
        self.worker = _started(
            lambda: self._cluster.add_node(
                node_ip_address="127.0.0.1", num_cpus=1, object_store_memory=_STORE, include_log_monitor=False
            )
        )
        return self.worker

    def kill(self) -> None:
        """SIGKILL all processes of `worker` at once."""
        raylet = psutil.Process(self.worker.all_processes["raylet"][0].process.pid)
        for process in [raylet, *raylet.children(recursive=True)]:
            process.kill()
        self._cluster.remove_node(self.worker, allow_graceful=False)

    def stop(self) -> None:
        """End all nodes."""
        self._cluster.shutdown()


def _started(start: Callable[[], Any]) -> Any:
    """What `start` returns, begun again where Ray did not wait: a node has 30 s, which a busy machine may exceed."""
    this = psutil.Process()
    for tries_left in (3, 2, 1, 0):
        before = this.children(recursive=True)
        try:
            return start()
        except Exception as error:
            for process in set(this.children(recursive=True)) - set(before):
                process.kill()
            if not tries_left or "timed out during startup" not in str(error):
                raise
    return None


def wait_until(holds: Callable[[], bool], seconds: float = 300) -> None:
    """Return as soon as `holds` returns True."""
    end = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end, "still not so"
        time.sleep(0.05)


@pytest.fixture(scope="session", autouse=True)
def ray_environment() -> Iterator[Path]:
    """The folder that stands for /tmp/ray.

    Its path is short: that of a socket inside may have 107 characters.
    """
    folder = Path(tempfile.mkdtemp(prefix="ray-", dir="/tmp"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_TMPDIR", str(folder))
        yield folder
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="session")
def two_nodes(ray_environment: Path) -> Iterator[TwoNodes]:
    """A cluster of two nodes for all tests; who kills `worker` lets another join."""
    nodes = TwoNodes()
    try:
        yield nodes
    finally:
        nodes.stop()
