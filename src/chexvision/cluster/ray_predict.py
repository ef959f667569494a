"""Prediction of many images on a Ray cluster: the same rows as on one machine, each exactly once, whatever fails.

The images, in the order in which one machine takes them, are divided into tasks. A task holds whole batches, so that
the engine computes the batches of one machine. Its rows come back to the command, which keeps them in a file named by
the hash of everything that they depend on. A task whose worker or node died is computed again by Ray, and a command
that was cut off is repeated: it computes the tasks that have no such file.
"""

from __future__ import annotations

import hashlib
import os
import pickle
import shutil
import socket
import tempfile
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import cache
from itertools import chain
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from chexvision.cluster.connect import ray_module
from chexvision.config.test_time import Tta
from chexvision.errors import ChexError, UsageError
from chexvision.files.atomic import write_text_atomic
from chexvision.files.atomic_folder import locked
from chexvision.foreign import printable
from chexvision.images.sources import is_archive
from chexvision.inference.load_predictor import EngineName, load_predictor
from chexvision.predict.inputs import Source, changed_since_listed, sha256_of_sources
from chexvision.predict.journal import About, about_model, read_results, refuse_unwritable, tasks_folder
from chexvision.predict.predictor import BATCH, Predictor
from chexvision.predict.result import Result, results_of
from chexvision.predict.result_files import remove_leftovers, write_results
from chexvision.progress import Progress

if TYPE_CHECKING:
    from chexvision.inference.device import DeviceName, Precision

# A multiple of BATCH. Of these, 1 s of a GPU and 30 s of a CPU core are lost when a worker is.
TASK_IMAGES = 32 * BATCH
# A task that ends its worker each time is given up; nodes that are taken away for others come on top of that.
RETRIES = 10
_AHEAD = 2  # tasks for each worker that wait or run: it has its next one at once


@dataclass(frozen=True, slots=True)
class Asked:
    """What to answer with; see `load_predictor` and `results_of`.

    Names of images are relative to `folder`.
    """

    model: str
    folder: str
    engine: EngineName = "auto"
    device: DeviceName = "auto"
    precision: Precision = "fp32"
    tta: Tta = "none"
    any_view: bool = False
    strict: bool = False


@dataclass(frozen=True, slots=True)
class _Task:
    """Images that are computed together.

    Args:
        number: of the task, from 0.
        about: what its rows are of.
        sources: the images.
    """

    number: int
    about: About
    sources: list[Source]

    @property
    def file_name(self) -> str:
        """Of its rows."""
        key = hashlib.sha256(self.about.model_dump_json().encode()).hexdigest()
        return f"{self.number:08}-{key[:32]}.jsonl"

    def is_done(self, folder: Path) -> bool:
        """Whether its rows are there."""
        return (folder / self.file_name).exists()


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


def _read(listing: IO[bytes]) -> Iterator[_Task]:
    """The tasks of a file that this process has written, from the first."""
    listing.seek(0)
    while True:
        try:
            yield pickle.load(listing)  # noqa: S301 - it has no name: no other process can have written it
        except EOFError:
            return


def tasks_of(about: About, sources: Iterable[Source]) -> Iterator[_Task]:
    """Divide the images, in order. The images of a tar archive, which is read from its beginning, stay together.

    Args:
        about: what answers.
        sources: the images.
    """
    number, task, of_archive = 0, list[Source](), 0
    for source in sources:
        container = source.found.container
        goes_on = bool(task) and task[-1].found.container == container
        in_tar = isinstance(container, Path) and is_archive(container) and container.suffix.lower() != ".zip"
        # A task ends with a batch, which may hold some images of the next archive.
        if len(task) >= TASK_IMAGES and len(task) % BATCH == 0 and not (in_tar and goes_on and of_archive >= BATCH):
            yield _task(number, about, task)
            number, task, of_archive = number + 1, [], 0
        of_archive = of_archive + 1 if goes_on and task else 1
        task.append(source)
    if task:
        yield _task(number, about, task)


def _task(number: int, about: About, sources: list[Source]) -> _Task:
    of = {"images": len(sources), "images_sha256": sha256_of_sources(sources)}
    return _Task(number, about.model_copy(update=of), sources)


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
        nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
        gpus = [int(node.get("GPU", 0)) for node in nodes]
        self._on_gpus = asked.device in ("auto", "cuda") and asked.engine in ("auto", "torch") and any(gpus)
        if asked.device == "cuda" and not any(gpus):
            raise UsageError("--device cuda: no node of the cluster has a GPU")
        used = [node for node, count in zip(nodes, gpus, strict=True) if count or not self._on_gpus]
        cores = int(min(node.get("CPU", 0) for node in used))
        each = max((count for count in gpus if count), default=1) if self._on_gpus else 1
        if workers is not None:
            each = max(each, -(-workers // len(used)))
        # Each takes its share of a node's cores, as its threads do.
        resources = {"num_cpus": max(1, cores // each), "num_gpus": 1 if self._on_gpus else 0}
        options = {**resources, "max_retries": RETRIES}
        self._describe = ray.remote(**options)(_describe)
        self._answer = ray.remote(**options)(_answer)

    @property
    def _at_once(self) -> int:
        """Tasks that wait or run: nodes may have joined."""
        workers = self._workers
        if workers is None:
            workers = sum(
                int(node["Resources"].get("GPU", 0)) if self._on_gpus else 1
                for node in self._ray.nodes()
                if node["Alive"]
            )
        return _AHEAD * max(1, workers)

    def about(self) -> About:
        """What answers, as a worker finds it."""
        about: About = self._get(self._describe.remote(self._asked), "the model")
        return about

    def computed(self, tasks: Iterator[_Task]) -> Iterator[tuple[_Task, str]]:
        """Each task with its rows, in the order in which they are done."""
        running: dict[Any, _Task] = {}
        remaining = True
        while remaining or running:
            while remaining and len(running) < self._at_once:
                task = next(tasks, None)
                if task is None:
                    remaining = False
                else:
                    running[self._answer.remote(self._asked, task.about, task.sources)] = task
            if running:
                ready, _ = self._ray.wait([*running])
                task = running.pop(ready[0])
                yield task, self._get(ready[0], f"the images from {task.sources[0].path}")

    def _get(self, answer: Any, what: str) -> Any:
        errors = self._ray.exceptions
        try:
            found = self._ray.get(answer)
        except (errors.RayError, ImportError, AttributeError) as error:
            lines = [line.strip() for line in str(error).splitlines() if line.strip()] or [type(error).__name__]
            # An exception of Python comes with its traceback; other texts begin with what happened.
            reason = printable(lines[-1] if isinstance(error, errors.RayTaskError) else lines[0])[:300]
            raise ChexError(f"{what} could not be computed on the cluster: {reason}") from None
        if isinstance(found, ChexError):
            raise found
        return found


def _describe(asked: Asked) -> About | ChexError:
    """What answers, on a worker."""
    try:
        return _loaded(asked)[1]
    except ChexError as error:
        return error


def _answer(asked: Asked, about: About, sources: list[Source]) -> str | ChexError:
    """The rows of some images as JSON lines, on a worker; they are refused if it would not answer as others do."""
    node = socket.gethostname()
    try:
        predictor, here = _loaded(asked)
        of = {"images": about.images, "images_sha256": about.images_sha256}
        if here.model_copy(update=of) != about:
            raise ChexError(
                f"node {node} has another model, or computes it with {here.engine}: name --engine and --device"
            )
        if Path(asked.folder).is_dir():
            os.chdir(asked.folder)
        changed = changed_since_listed(sources)
        if changed is not None:
            raise ChexError(
                f"{printable(changed.path)} is not on node {node} as it was listed; the nodes and this machine have "
                "to share the folder of the images"
            )
        rows = results_of(predictor, sources, any_view=asked.any_view, strict=asked.strict)
        return "".join(f"{row.model_dump_json()}\n" for row in rows)
    except ChexError as error:
        return error


@cache
def _loaded(asked: Asked) -> tuple[Predictor, About]:
    """Once for each process."""
    predictor = load_predictor(asked.model, asked.engine, asked.device, asked.precision, asked.tta)
    return predictor, about_model(asked.model, predictor, asked.tta, any_view=asked.any_view, strict=asked.strict)
