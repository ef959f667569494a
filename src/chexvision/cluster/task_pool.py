"""Networks computed on a Ray cluster: tasks that any node can do, and again if it is lost."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import suppress
from importlib import metadata
from typing import Any, TypeVar

import cv2
import numpy as np

from chexvision import __version__
from chexvision.cluster.connect import ray_module
from chexvision.cluster.waiting import Room, alive_nodes
from chexvision.errors import ChexError, UsageError
from chexvision.foreign import printable

# A task that ends its worker each time is given up; nodes that are taken away for others come on top of that.
RETRIES = 10
# A multiple of all batches. Of these, 1 s of a GPU and 30 s of a CPU core are lost when a worker is.
TASK_IMAGES = 512
_AHEAD = 2  # tasks for each worker that wait or run: it has its next one at once

T = TypeVar("T")


def versions() -> tuple[str, ...]:
    """Of what probabilities depend on, as this node has them."""
    found = [f"chexvision {__version__}", f"opencv {cv2.__version__}", f"numpy {np.__version__}"]
    for name in ("torch", "onnxruntime", "openvino"):
        with suppress(metadata.PackageNotFoundError):
            found.append(f"{name} {metadata.version(name)}")
    return tuple(found)


class TaskPool:
    """Runs functions on the nodes of the cluster that this process is connected to.

    A function returns a ChexError that it would raise: Ray would add a traceback to it.

    Args:
        workers: tasks at a time; None for one per GPU, or per node where there is none or it is not used.
        gpus: whether GPUs are used where there are some.

    Raises:
        ChexError: no node computes.
    """

    def __init__(self, workers: int | None, *, gpus: bool) -> None:
        self._ray = ray_module()
        self._workers = workers
        nodes = self._nodes()
        gpus_of = [int(node.get("GPU", 0)) for node in nodes if node.get("GPU", 0)]
        self.on_gpus = gpus and bool(gpus_of)
        used = [node for node in nodes if node.get("GPU", 0) or not self.on_gpus]
        cores = int(min(node["CPU"] for node in used))
        each = max(gpus_of) if self.on_gpus else 1
        if workers is not None:
            each = max(each, -(-workers // len(used)))
        # Each takes its share of a node's cores, as its threads do.
        self._options = {
            "num_cpus": max(1, cores // each),
            "num_gpus": 1 if self.on_gpus else 0,
            "max_retries": RETRIES,
        }

        self._room = Room("a task", {"CPU": self._options["num_cpus"], "GPU": self._options["num_gpus"]})

    def require_gpu(self) -> None:
        """Raise UsageError where the cluster has none."""
        if not self.on_gpus:
            raise UsageError("--device cuda: no node of the cluster has a GPU")

    def run(self, function: Callable[..., Any], *arguments: object, what: str) -> Any:
        """What a function returns; see `computed`."""
        reference = self._remote(function).remote(*arguments)
        while not self._room.wait([reference]):
            pass
        return self._get(reference, what)

    def computed(
        self,
        function: Callable[..., Any],
        tasks: Iterator[T],
        arguments: Callable[[T], tuple[object, ...]],
        what: Callable[[T], str],
    ) -> Iterator[tuple[T, Any]]:
        """Each task with what the function returns for it, in the order in which they are done.

        Args:
            function: of a module that nodes can import.
            tasks: taken as there is room for them.
            arguments: of the function.
            what: is computed, for messages.

        Raises:
            ChexError: the function returned one, or a task ends its worker each time.
        """
        remote, running, remaining = self._remote(function), dict[Any, T](), True
        while remaining or running:
            at_once = self._at_once
            while remaining and len(running) < max(1, at_once):
                task = next(tasks, None)
                if task is None:
                    remaining = False
                else:
                    running[remote.remote(*arguments(task))] = task
            for reference in self._room.wait([*running]) if running else ():
                task = running.pop(reference)
                yield task, self._get(reference, what(task))

    def _remote(self, function: Callable[..., Any]) -> Any:
        return self._ray.remote(**self._options)(function)

    def _nodes(self) -> list[dict[str, float]]:
        """What each node has that computes."""
        computing = [node for node in alive_nodes() if node.get("CPU", 0)]
        if not computing:
            raise ChexError(
                "no node of the cluster has a CPU for tasks; start one with: ray start --address HOST:PORT"
            )
        return computing

    @property
    def _at_once(self) -> int:
        """Tasks that run, or wait for a worker that will be free; nodes may have joined."""
        if self._workers is not None:
            return self._workers
        return _AHEAD * sum(int(node.get("GPU", 0)) if self.on_gpus else 1 for node in self._nodes())

    def _get(self, reference: Any, what: str) -> Any:
        errors = self._ray.exceptions
        try:
            found = self._ray.get(reference)
        except (errors.RayError, ImportError, AttributeError) as error:
            lines = [line.strip() for line in str(error).splitlines() if line.strip()] or [type(error).__name__]
            # An exception of Python comes with its traceback; other texts begin with what happened.
            reason = printable(lines[-1] if isinstance(error, errors.RayTaskError) else lines[0])[:300]
            raise ChexError(f"{what} could not be computed on the cluster: {reason}") from None
        if isinstance(found, ChexError):
            raise found
        return found
