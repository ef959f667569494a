"""A folder of images in which one waits until a file is there; imported by the workers of a cluster too."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

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
        (self.gate / f"waiting-{os.getpid()}").touch()
        while not (self.gate / "go").exists():
            time.sleep(0.01)
        return load()


def waiting(gate: Path) -> set[int]:
    """The processes that wait, or waited."""
    return {int(path.name.partition("-")[2]) for path in gate.glob("waiting-*")}
