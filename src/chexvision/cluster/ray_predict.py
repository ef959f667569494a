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
from typing import IO

from chexvision.cluster.predict_tasks import Asked, Task, answer, describe, tasks_of
from chexvision.cluster.task_pool import TaskPool
from chexvision.errors import ChexError
from chexvision.files.atomic import write_text_atomic
from chexvision.files.atomic_folder import locked
from chexvision.predict.inputs import Source
from chexvision.predict.journal import About, make_tasks_folder, read_results, refuse_unwritable
from chexvision.predict.result import Result
from chexvision.predict.result_files import remove_leftovers, write_results
from chexvision.progress import Progress


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
    with (
        locked(out.with_name(f".{out.name}.lock"), f"{out} is being written by another command"),
        tempfile.TemporaryFile() as listing,
    ):
        remove_leftovers(out)
        pool = TaskPool(workers, gpus=asked.device in ("auto", "cuda") and asked.engine in ("auto", "torch"))
        if asked.device == "cuda":
            pool.require_gpu()
        about: About = pool.run(describe, asked, what="the model")
        folder = make_tasks_folder(out)
        images = done = 0
        for task in tasks_of(about, sources):
            pickle.dump(task, listing)
            images += len(task.sources)
            done += len(task.sources) if task.is_done(folder) else 0
        announce(about, done, images)
        with Progress("predicting", images, "images", done) as progress:
            left = (task for task in _read(listing) if not task.is_done(folder))
            for task, rows in pool.computed(
                answer,
                left,
                lambda task: (asked, task.about, task.sources),
                lambda task: f"the images from {task.sources[0].path}",
            ):
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
