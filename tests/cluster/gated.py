"""Work that waits until a file is there; imported by the workers of a cluster too."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from chexvision.files.archives import Read
from chexvision.images.sources import Found, read_images


@dataclass(frozen=True, slots=True)
class GatedFolder:
    """A container whose images are read once `gate`/go exists; who waits says so with a file named by its process."""

    folder: Path
    gate: Path

    def read(self, images: list[Found]) -> Iterator[tuple[Found, Read]]:
        """See `read_images`."""
        by_name = {found.name: found for found in images}
        for found, load in read_images([replace(found, container=self.folder) for found in images]):
            yield by_name[found.name], partial(self._load, load)

    def _load(self, load: Read) -> bytes:
        _wait(self.gate)
        return load()


def at_gate(work: Callable[..., Any], gate: Path) -> Callable[..., Any]:
    """`work` that begins once `gate`/go exists; who waits says so with a file named by its process."""

    def waits(*arguments: object) -> Any:
        _wait(gate)
        return work(*arguments)

    return waits


def _wait(gate: Path) -> None:
    (gate / f"waiting-{os.getpid()}").touch()
    while not (gate / "go").exists():
        time.sleep(0.01)


def waiting(gate: Path) -> set[int]:
    """The processes that wait, or waited."""
    return {int(path.name.partition("-")[2]) for path in gate.glob("waiting-*")}
