"""What a worker of the cluster does for an evaluation: the probabilities of some rows of one shard."""

from __future__ import annotations

import hashlib
import json
import socket
from collections.abc import Iterator
from dataclasses import astuple, dataclass
from functools import cache, lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from chexvision.artifact.load import Ensemble, load_ensemble
from chexvision.cluster.task_pool import TASK_IMAGES, versions
from chexvision.config.test_time import Tta
from chexvision.data.decode import decoded_in_memory
from chexvision.data.rows import Rows
from chexvision.data.source import find_shards
from chexvision.errors import ChexError
from chexvision.evaluation.computing import BATCH
from chexvision.hub.reference import Reference, parse_reference
from chexvision.inference.predict_members import predict_members
from chexvision.metrics.ranking import Floats
from chexvision.predict.published import sha256_of_folder
from chexvision.training.hardware import start_accelerator

if TYPE_CHECKING:
    from accelerate import Accelerator

_FORMAT = 1  # of the files that `Piece.key` names


@dataclass(frozen=True, slots=True)
class Node:
    """How a node computes; all have to agree.

    Args:
        device: "cpu" or "cuda".
        precision: as `Accelerator.mixed_precision` names it.
        versions: of what probabilities depend on.
    """

    device: str
    precision: str
    versions: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Asked:
    """What to compute.

    Args:
        model: a folder that all nodes share, or a repository at a commit.
        model_files: equal for equal files of it.
        data: likewise, of shards.
        identity: of these.
        tta: the test-time augmentation.
        precision: "auto", "fp32", "fp16" or "bf16".
        node: what "auto" is on the first node.
    """

    model: str
    model_files: str
    data: str
    identity: str
    tta: Tta
    precision: str
    node: Node


@dataclass(frozen=True, slots=True)
class Piece:
    """Consecutive rows of one shard: whole batches of those that one machine computes.

    Args:
        begin: position of the first one among all rows.
        rows: themselves.
    """

    begin: int
    rows: Rows

    @property
    def end(self) -> int:
        """The position after the last one."""
        return self.begin + len(self.rows)

    def key(self, asked: Asked) -> str:
        """Names the probabilities: equal for equal ones."""
        digest = hashlib.sha256(json.dumps([_FORMAT, astuple(asked)]).encode())
        digest.update(self.rows.shard.tobytes())
        digest.update(self.rows.row.tobytes())
        return digest.hexdigest()[:40]


def pieces_of(rows: Rows, *, whole: bool) -> Iterator[Piece]:
    """Divide rows, in order.

    Args:
        rows: in the order of the shards.
        whole: whether all rows of a shard stay together, so that a node which has to fetch it does so for all.
    """
    most = len(rows) if whole else TASK_IMAGES
    for of_shard in np.split(np.arange(len(rows)), np.flatnonzero(np.diff(rows.shard)) + 1):
        for at in range(0, len(of_shard), most):
            here = of_shard[at : at + most]
            yield Piece(int(here[0]), rows.take(here))


def describe(precision: str) -> Node | ChexError:
    """How this node computes."""
    try:
        return _started(precision)[1]
    except ChexError as error:
        return error


def probabilities(asked: Asked, rows: Rows, known: Floats | None) -> Floats | ChexError:
    """Of a piece: float64[N, K + 1], as `predict_members` computes them; refused if this node is not like the first.

    Args:
        asked: what to compute.
        rows: of one shard, which alone is fetched.
        known: see `predict_members`.
    """
    try:
        accelerator, here = _started(asked.precision)
        where, model, data = socket.gethostname(), parse_reference(asked.model), parse_reference(asked.data)
        if here != asked.node:
            raise ChexError(
                f"node {where} computes on {here.device} in {here.precision}, or has other versions than the first "
                f"one: {', '.join(here.versions)}"
            )
        for folder in (model, data):
            if isinstance(folder, Path) and not folder.is_dir():
                raise ChexError(f"{folder} is not there on node {where}; name a folder that all nodes share")
        ensemble, files = _loaded(asked.model, asked.precision)
        source = find_shards(data, {int(number) for number in np.unique(rows.shard)})
        if files != asked.model_files or source.identity != asked.identity:
            other = asked.data if files == asked.model_files else asked.model
            raise ChexError(f"{other} has other files on node {where} than where the command runs; share one folder")
        return predict_members(
            *(ensemble, source, rows, accelerator, BATCH), tta=asked.tta, known=known, decode=decoded_in_memory
        )
    except ChexError as error:
        return error


def model_files(reference: Reference) -> str:
    """Equal for equal files of a model."""
    return sha256_of_folder(reference) if isinstance(reference, Path) else str(reference)


@cache
def _started(precision: str) -> tuple[Accelerator, Node]:
    """Once for each process."""
    accelerator = start_accelerator(precision)
    return accelerator, Node(accelerator.device.type, str(accelerator.mixed_precision), versions())


@lru_cache(maxsize=1)  # one after another: several may not fit
def _loaded(model: str, precision: str) -> tuple[Ensemble, str]:
    reference = parse_reference(model)
    return load_ensemble(reference).to(_started(precision)[0].device), model_files(reference)
