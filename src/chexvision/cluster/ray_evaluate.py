"""An evaluation whose networks are computed on a Ray cluster; all else is the evaluation of one machine.

The rows of a split are divided into tasks, each of one shard. The command keeps the probabilities of a task in a file
named by the hash of everything that they depend on. A task whose worker or node died is computed again by Ray, and a
command that was cut off is repeated: it computes the tasks that have no such file.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from chexvision.cluster.connect import connected
from chexvision.cluster.evaluate_tasks import Asked, Node, Piece, describe, model_files, pieces_of, probabilities
from chexvision.cluster.task_pool import TaskPool
from chexvision.config.test_time import Tta
from chexvision.data.decode import Images, decoded_in_memory
from chexvision.data.rows import Rows
from chexvision.data.source import ShardSource, find_labels, find_shards
from chexvision.errors import ChexError, UsageError
from chexvision.evaluation.computing import NamedModel, predicting
from chexvision.files.arrays import DAMAGED, read_arrays, write_arrays
from chexvision.files.atomic_folder import locked
from chexvision.hub.reference import Reference, RepoRef, parse_reference
from chexvision.images.preprocessing import Preprocessing
from chexvision.metrics.ranking import Floats
from chexvision.predict.journal import make_tasks_folder, tasks_folder
from chexvision.progress import Progress

_LARGEST = 1 << 30  # bytes of a file of probabilities; those of a shard of 100,000 images have 12 MB


@contextmanager
def computing_on_ray(out: Path, address: str, workers: int | None, precision: str) -> Iterator[OnRay]:
    """Have a cluster compute an evaluation; what it has computed is kept until the block is left without an error.

    Args:
        out: folder of the evaluation; the probabilities of tasks are kept next to it.
        address: see `connected`.
        workers: see `TaskPool`.
        precision: "auto", "fp32", "fp16" or "bf16".

    Raises:
        ChexError: Ray is not installed or does not answer, the nodes cannot compute in `precision`, or another
            command writes the evaluation.
        UsageError: the folder of the tasks has files of somebody else.
    """
    kept = tasks_folder(out)
    out.parent.mkdir(parents=True, exist_ok=True)
    lock = kept.with_name(f".{kept.name}.lock")
    with connected(address), locked(lock, f"{out} is being written by another command"):
        pool = TaskPool(workers, gpus=True)
        node: Node = pool.run(describe, precision, what="the nodes' device")
        make_tasks_folder(out)
        yield OnRay(pool, node, precision, kept)
        shutil.rmtree(kept)


class OnRay:
    """A `Compute`: the cluster that this process is connected to.

    Args:
        pool: runs the tasks.
        node: how a node computes.
        precision: as it was asked for.
        kept: folder of the probabilities of tasks.
    """

    device = torch.device("cpu")

    def __init__(self, pool: TaskPool, node: Node, precision: str, kept: Path) -> None:
        self._pool = pool
        self._node = node
        self._asked_precision = precision
        self._kept = kept
        self._files = dict[Reference, str]()

    @property
    def precision(self) -> str:
        """Of the nodes."""
        return self._node.precision

    def shards(self, reference: Reference) -> ShardSource:
        """Their labels; those of the Hub are not fetched."""
        return find_labels(reference)

    def rows(
        self, model: NamedModel, source: ShardSource, rows: Rows, what: str, tta: Tta, known: Floats | None
    ) -> Floats:
        """See `Compute`."""
        asked = self._asked(model.reference, source, tta)
        on_hub = isinstance(parse_reference(source.name), RepoRef)
        found: Floats = np.empty((len(rows), len(model.loaded.label_space.outputs)))

        def arguments(piece: Piece) -> tuple[object, ...]:
            return asked, piece.rows, None if known is None else known[piece.begin : piece.end]

        def place(piece: Piece) -> Path:
            return self._kept / f"{piece.key(asked)}.npz"

        with Progress(predicting(what, model.name, tta), len(rows), "images") as progress:
            missing = []
            for piece in pieces_of(rows, whole=on_hub):
                if place(piece).exists():
                    found[piece.begin : piece.end] = _read(place(piece))
                    progress.advance(len(piece.rows))
                else:
                    missing.append(piece)
            for piece, values in self._pool.computed(
                probabilities, iter(missing), arguments, lambda piece: f"the images from {piece.rows.filenames[0]}"
            ):
                _keep(place(piece), values)
                found[piece.begin : piece.end] = values
                progress.advance(len(piece.rows))
        return found

    def files(self, model: NamedModel, paths: Sequence[Path], what: str, tta: Tta) -> Floats:
        """Refuse them: they are on the machine of the command."""
        raise UsageError("--external is for --on here; make shards of its images and name them with a further --data")

    def images(self, source: ShardSource, rows: Rows, preprocessing: Preprocessing, what: str) -> Images:
        """See `Compute`; each is read when it is looked at."""
        return _StoredImages(source, rows, preprocessing)

    def _asked(self, model: Reference, source: ShardSource, tta: Tta) -> Asked:
        if model not in self._files:
            self._files[model] = model_files(model)
        where = str(model.resolve() if isinstance(model, Path) else model)
        of = self._files[model], source.name, source.identity, tta, self._asked_precision, self._node
        return Asked(where, *of)


class _StoredImages:
    """The images of rows, of which few are looked at."""

    def __init__(self, source: ShardSource, rows: Rows, preprocessing: Preprocessing) -> None:
        self._source = source
        self._rows = rows
        self._preprocessing = preprocessing
        self._read = dict[int, NDArray[np.uint8]]()

    def __getitem__(self, at: int) -> NDArray[np.uint8]:
        if at not in self._read:
            rows = self._rows.take(np.array([at]))
            source = find_shards(parse_reference(self._source.name), [int(rows.shard[0])])
            self._read[at] = decoded_in_memory(source, rows, self._preprocessing)[0]
        return self._read[at]


def _keep(path: Path, values: Floats) -> None:
    try:
        write_arrays(path, probabilities=values)
    except OSError as error:
        raise ChexError(
            f"{path} cannot be written ({error.strerror or error}); the same command goes on with what is in "
            f"{path.parent.name}"
        ) from None


def _read(path: Path) -> Floats:
    try:
        found: Floats = read_arrays(path, _LARGEST)["probabilities"]
        return found
    except DAMAGED as error:
        raise ChexError(f"{path} is damaged ({error}); remove it, and run the same command again") from None
