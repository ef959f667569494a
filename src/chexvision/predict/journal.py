"""Results that survive the process that computes them.

Each is appended to ``OUT.partial``, in JSON lines, as soon as it is there. A command that is started again reads what
an earlier one left, and goes on behind it. `OUT` itself appears when all are there, complete.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from io import RawIOBase
from pathlib import Path

from pydantic import ValidationError

from chexvision.errors import ChexError, UsageError
from chexvision.files.atomic_folder import locked
from chexvision.foreign import printable
from chexvision.hub.reference import parse_reference
from chexvision.metrics.records import Record
from chexvision.predict.answer import ModelFacts
from chexvision.predict.predictor import BATCH, Predictor
from chexvision.predict.published import sha256_of_folder
from chexvision.predict.result import FORMAT, Result
from chexvision.predict.result_files import remove_leftovers, write_results, writer_for

_OF_TASK = re.compile(r"\.?(\d{8,}-)?[0-9a-f]{32,}\.")  # named by its key; with a dot in front while it is written


class About(Record):
    """What a file of results is of, its first line. Results of another are not continued.

    Args:
        format: of the lines.
        model: which model answers.
        model_files: equal for equal files of it.
        engine: what computes it.
        outputs: of the model.
        options: that change what is answered, in words.
        images: how many.
        images_sha256: equal for the same images that have not changed.
    """

    format: int = FORMAT
    model: ModelFacts
    model_files: str
    engine: str
    outputs: tuple[str, ...]
    options: tuple[str, ...]
    images: int
    images_sha256: str


_OTHERS = {
    "format": "by another version of chexvision",
    "model": "with another model",
    "model_files": "with another model",
    "engine": "with another engine",
    "outputs": "with another model",
    "options": "with other options",
    "images": "for other images",
    "images_sha256": "for other images, or an image has changed since",
}


class Journal:
    """The results that there are. Made by `open_journal`."""

    def __init__(self, file: RawIOBase, path: Path, out: Path, about: About, done: int) -> None:
        self._file = file
        self._path = path
        self._out = out
        self._about = about
        self.done = done

    def add(self, result: Result) -> None:
        """Append one.

        Raises:
            ChexError: it cannot be written, as on a full disk.
        """
        try:
            _write(self._file, f"{result.model_dump_json()}\n".encode())
        except OSError as error:
            raise ChexError(
                f"{self._path} cannot be written ({error.strerror}); the same command goes on after {self.done:,} of "
                f"{self._about.images:,} images"
            ) from None
        self.done += 1

    def results(self) -> Iterator[Result]:
        """All that there are, from the first, read from the file."""
        yield from read_results(self._path)

    def finish(self) -> None:
        """Write the file of results, which replaces this one.

        Raises:
            ChexError: it cannot be written, as on a full disk.
        """
        if self.done != self._about.images:
            raise ValueError(f"{self.done} of {self._about.images} results")
        try:
            write_results(self._out, self._about.outputs, self.results())
        except OSError as error:
            raise ChexError(
                f"{self._out} cannot be written ({error.strerror or error}); its rows are kept in {self._path.name}, "
                "and the same command writes them"
            ) from None
        self._path.unlink()


def about_model(model: str, predictor: Predictor, tta: str, *, any_view: bool, strict: bool) -> About:
    """What results are of, before it is known for which images.

    Args:
        model: a folder, or ``USER/REPO[@REVISION]``.
        predictor: that model.
        tta: the test-time augmentation.
        any_view: see `chexvision.predict.result.results_of`, as `strict`.
    """
    reference = parse_reference(model)
    return About(
        model=predictor.facts,
        model_files=sha256_of_folder(reference) if isinstance(reference, Path) else str(predictor.facts),
        engine=predictor.engine.name,
        outputs=predictor.engine.label_space.outputs,
        options=(f"--tta {tta}", *(["--any-view"] if any_view else []), *(["--strict"] if strict else [])),
        images=0,
        images_sha256="",
    )


def read_results(path: Path) -> Iterator[Result]:
    """The results of a complete journal, which stand below its head."""
    with path.open("rb") as file:
        next(file)
        yield from map(Result.model_validate_json, file)


def refuse_unwritable(out: Path) -> None:
    """Raise UsageError where `out` cannot be written: an unknown ending, a file of that name, or its folder."""
    writer_for(out)
    if out.exists() and not _partial(out).exists() and not tasks_folder(out).exists():
        raise UsageError(f"--out {out} exists; name another file, or remove it")
    folder = next(parent for parent in out.absolute().parents if parent.exists())
    if not folder.is_dir() or not os.access(folder, os.W_OK):
        raise UsageError(f"--out {out} cannot be written: {folder} is not a folder that you may write to")


@contextmanager
def open_journal(out: Path, about: About) -> Iterator[Journal]:
    """Begin a file of results, or continue one that an earlier command of the same kind left.

    It is continued at the beginning of a batch, so that all batches hold the images that they would hold otherwise:
    the last digits of a probability depend on them.

    Raises:
        UsageError: see `refuse_unwritable`; or the file was begun with another model, other options or images.
        ChexError: another process writes it, or it cannot be written.
    """
    refuse_unwritable(out)
    out.parent.mkdir(parents=True, exist_ok=True)
    path = _partial(out)
    with locked(out.with_name(f".{out.name}.lock"), f"{out} is being written by another command"):
        remove_leftovers(out)
        head = f"{about.model_dump_json()}\n".encode()
        ends = _complete_lines(path, about) if path.exists() else []
        with path.open("r+b" if ends else "wb", buffering=0) as file:
            if ends:
                done = len(ends) - 1
                done -= 0 if done == about.images else done % BATCH
                file.truncate(ends[done])
                file.seek(ends[done])
            else:
                done = 0
                _write(file, head)
            yield Journal(file, path, out, about, done)


def _complete_lines(path: Path, about: About) -> list[int]:
    """Where the head and each complete result end in the file; empty where not even the head is complete.

    Raises:
        UsageError: it is of other results.
    """
    ends: list[int] = []
    with path.open("rb") as file:
        for line in file:
            try:
                if not line.endswith(b"\n"):
                    break
                if ends:
                    Result.model_validate_json(line)
                else:
                    _refuse_other(path, About.model_validate_json(line), about)
            except ValidationError:
                if not ends:
                    raise UsageError(f"{path} does not hold results that can be continued; remove it") from None
                break
            ends.append(ends[-1] + len(line) if ends else len(line))
    return ends


def _refuse_other(path: Path, begun: About, about: About) -> None:
    for name, other in _OTHERS.items():
        if getattr(begun, name) != getattr(about, name):
            raise UsageError(f"{path} was begun {other}; repeat that command, or remove the file to begin again")


def tasks_folder(out: Path) -> Path:
    """Where the results of tasks are kept that are computed on a cluster."""
    return out.with_name(f"{out.name}.tasks")


def make_tasks_folder(out: Path) -> Path:
    """The folder of `tasks_folder`, which the caller removes as a whole once `out` is there.

    Raises:
        UsageError: it has files of somebody else.
    """
    folder = tasks_folder(out)
    folder.mkdir(exist_ok=True)
    for name in sorted(path.name for path in folder.iterdir()):
        if not _OF_TASK.match(name):
            raise UsageError(f"{folder} has files that are not results of tasks, such as {printable(name)}; move it")
    return folder


def _partial(out: Path) -> Path:
    return out.with_name(f"{out.name}.partial")


def _write(file: RawIOBase, data: bytes) -> None:
    """All of `data`: a write to a disk that is almost full writes a part."""
    rest = memoryview(data)
    while rest:
        rest = rest[file.write(rest) or 0 :]
