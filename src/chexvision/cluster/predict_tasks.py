"""What a worker of the cluster does for a prediction: the tasks, and their rows."""

from __future__ import annotations

import hashlib
import os
import socket
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from chexvision.cluster.task_pool import TASK_IMAGES, versions
from chexvision.config.test_time import Tta
from chexvision.errors import ChexError
from chexvision.files.archives import is_archive
from chexvision.foreign import printable
from chexvision.inference.load_predictor import EngineName, load_predictor
from chexvision.predict.inputs import Source, changed_since_listed, sha256_of_sources
from chexvision.predict.journal import About, about_model
from chexvision.predict.predictor import BATCH, Predictor
from chexvision.predict.result import results_of

if TYPE_CHECKING:
    from chexvision.inference.device import DeviceName, Precision


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
class Task:
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


def tasks_of(about: About, sources: Iterable[Source]) -> Iterator[Task]:
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


def _task(number: int, about: About, sources: list[Source]) -> Task:
    of = {"images": len(sources), "images_sha256": sha256_of_sources(sources)}
    return Task(number, about.model_copy(update=of), sources)


def describe(asked: Asked) -> About | ChexError:
    """What answers, on a worker."""
    try:
        return _loaded(asked)[1]
    except ChexError as error:
        return error


def answer(asked: Asked, about: About, sources: list[Source]) -> str | ChexError:
    """The rows of some images as JSON lines, on a worker; they are refused if it would not answer as others do."""
    node = socket.gethostname()
    try:
        predictor, here = _loaded(asked)
        of = {"images": about.images, "images_sha256": about.images_sha256}
        if here.model_copy(update=of) != about:
            raise ChexError(
                f"node {node} has another model, computes it with {here.engine} (name --engine and --device), or has "
                f"other versions: {', '.join(here.options[-len(versions()) :])}"
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
    about = about_model(asked.model, predictor, asked.tta, any_view=asked.any_view, strict=asked.strict)
    return predictor, about.model_copy(update={"options": (*about.options, *versions())})
