"""Prediction of many images on a Ray cluster: the same rows as on one machine, each exactly once, whatever fails.

The images, in the order in which one machine takes them, are divided into tasks. A task holds whole batches, so that
the engine computes the batches of one machine. Its rows come back to the command, which keeps them in a file named by
the hash of everything that they depend on. A task whose worker or node died is computed again by Ray, and a command
that was cut off is repeated: it computes the tasks that have no such file.
"""

from __future__ import annotations

import pickle
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator
from itertools import chain
from pathlib import Path
from typing import IO, Any

from chexvision.cluster.connect import ray_module
from chexvision.cluster.predict_tasks import Asked, Task, answer, describe, tasks_of
from chexvision.errors import ChexError, UsageError
from chexvision.files.atomic import write_text_atomic
from chexvision.files.atomic_folder import locked
from chexvision.foreign import printable
from chexvision.predict.inputs import Source
from chexvision.predict.journal import About, read_results, refuse_unwritable, tasks_folder
from chexvision.predict.result import Result
from chexvision.predict.result_files import remove_leftovers, write_results
from chexvision.progress import Progress

# A task that ends its worker each time is given up; nodes that are taken away for others come on top of that.
RETRIES = 10
_AHEAD = 2  # tasks for each worker that wait or run: it has its next one at once


def predict_on_ray(
    asked: Asked,
    sources: Iterable[Source],
    out: Path,
    *,
    workers: int | None,
    announce: Callable[[About, int, int], None],
    seen: Callable[[Result], None],
) -> float:
    """Predict images on the cluster that this process is connected to, and write the file or folder `out`.

    Args:
        asked: what to answer with.
        sources: the images; listed once, none is kept in memory.
        out: see `write_results`.
        workers: tasks at a time; None for one per GPU, or per node where there is none or it is not used.
        announce: called before anything is computed with what answers, the number of images that an earlier command
            has computed, and that of all images.
        seen: called with each row, in order, when all are there.

    Returns:
        Images per second of this command.

    Raises:
        UsageError: `out` cannot be written, or the model and the options do not go together.
        ChexError: a node has another model, engine or file than the first one; a task ends its worker each time; or
            a file cannot be written.
    """
    refuse_unwritable(out)
    out.parent.mkdir(parents=True, exist_ok=True)
    folder = tasks_folder(out)
    with (
        locked(out.with_name(f".{out.name}.lock"), f"{out} is being written by another command"),
        tempfile.TemporaryFile() as listing,
    ):
        remove_leftovers(out)
        cluster = _Tasks(asked, workers)
        about = cluster.about()
        folder.mkdir(exist_ok=True)
        images = done = 0
        for task in tasks_of(about, sources):
            pickle.dump(task, listing)
            images += len(task.sources)
            done += len(task.sources) if task.is_done(folder) else 0
        announce(about, done, images)
        with Progress("predicting", images, "images", done) as progress:
            for task, rows in cluster.computed(task for task in _read(listing) if not task.is_done(folder)):
                _keep(folder / task.file_name, task.about, rows)
                progress.advance(len(task.sources))
            rate = progress.rate
        kept = (read_results(folder / task.file_name) for task in _read(listing))
        try:
            write_results(out, about.outputs, _each(chain.from_iterable(kept), seen))
        except OSError as error:
            raise ChexError(
                f"{out} cannot be written ({error.strerror or error}); its rows are kept in {folder.name}, and the "
                "same command writes them"
            ) from None
        shutil.rmtree(folder)
    return rate


def _read(listing: IO[bytes]) -> Iterator[Task]:
    """The tasks of a file that this process has written, from the first."""
    listing.seek(0)
    while True:
        try:
            yield pickle.load(listing)  # noqa: S301 - it has no name: no other process can have written it
        except EOFError:
            return


def _keep(path: Path, about: About, rows: str) -> None:
    try:
        write_text_atomic(path, f"{about.model_dump_json()}\n{rows}")
    except OSError as error:
        raise ChexError(
            f"{path} cannot be written ({error.strerror or error}); the same command goes on with what is in "
            f"{path.parent.name}"
        ) from None


def _each(results: Iterable[Result], seen: Callable[[Result], None]) -> Iterator[Result]:
    for result in results:
        seen(result)
        yield result


class _Tasks:
    """Functions that run on the cluster.

    Args:
        asked: what to answer with.
        workers: see `predict_on_ray`.
    """

    def __init__(self, asked: Asked, workers: int | None) -> None:
        self._ray = ray = ray_module()
        self._asked = asked
        self._workers = workers
        nodes = self._nodes()
        gpus = [int(node.get("GPU", 0)) for node in nodes if node.get("GPU", 0)]
        self._on_gpus = asked.device in ("auto", "cuda") and asked.engine in ("auto", "torch") and bool(gpus)
        if asked.device == "cuda" and not gpus:
            raise UsageError("--device cuda: no node of the cluster has a GPU")
        used = [node for node in nodes if node.get("GPU", 0) or not self._on_gpus]
        cores = int(min(node["CPU"] for node in used))
        each = max(gpus) if self._on_gpus else 1
        if workers is not None:
            each = max(each, -(-workers // len(used)))
        # Each takes its share of a node's cores, as its threads do.
        resources = {"num_cpus": max(1, cores // each), "num_gpus": 1 if self._on_gpus else 0}
        options = {**resources, "max_retries": RETRIES}
        self._describe = ray.remote(**options)(describe)
        self._answer = ray.remote(**options)(answer)

    def _nodes(self) -> list[dict[str, float]]:
        """What each node has that computes."""
        alive = [node["Resources"] for node in self._ray.nodes() if node["Alive"]]
        computing: list[dict[str, float]] = [node for node in alive if node.get("CPU", 0)]
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
        return _AHEAD * sum(int(node.get("GPU", 0)) if self._on_gpus else 1 for node in self._nodes())

    def about(self) -> About:
        """What answers, as a worker finds it."""
        about: About = self._get(self._describe.remote(self._asked), "the model")
        return about

    def computed(self, tasks: Iterator[Task]) -> Iterator[tuple[Task, str]]:
        """Each task with its rows, in the order in which they are done."""
        running: dict[Any, Task] = {}
        remaining = True
        while remaining or running:
            at_once = self._at_once
            while remaining and len(running) < max(1, at_once):
                task = next(tasks, None)
                if task is None:
                    remaining = False
                else:
                    running[self._answer.remote(self._asked, task.about, task.sources)] = task
            if running:
                ready, _ = self._ray.wait([*running])
                task = running.pop(ready[0])
                yield task, self._get(ready[0], f"the images from {task.sources[0].path}")

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
