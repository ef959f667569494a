"""Images to answers: read, prepared in threads, computed in batches, calibrated, checked."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, TypeAlias, overload

from chexvision.errors import UsageError
from chexvision.images.reading import ImageLike, as_radiograph
from chexvision.metrics.operating_points import OperatingPoints
from chexvision.parallel import map_in_order, usable_cores
from chexvision.predict.answer import Answer, Failure, ModelFacts
from chexvision.predict.engine import Engine, Prepared
from chexvision.predict.input_check import InputCheck

BATCH = 16

Load: TypeAlias = Callable[[], ImageLike]


@dataclass(frozen=True, slots=True)
class Examined:
    """An answer, and the image that it was computed of, which the engine can explain."""

    answer: Answer
    prepared: Prepared


@dataclass(frozen=True, slots=True)
class _Ready:
    """An image that was read; its pixels are not kept."""

    name: str
    notes: tuple[str, ...]
    warnings: tuple[str, ...]
    prepared: Prepared


@dataclass(frozen=True, slots=True)
class Predictor:
    """One published model, ready to answer.

    Args:
        engine: computes it.
        facts: what answers say about it.
        points: calibration and thresholds that it was published with.
        check: the input check that it was published with.
    """

    engine: Engine
    facts: ModelFacts
    points: OperatingPoints
    check: InputCheck | None = None

    @overload
    def predict(self, images: ImageLike, *, any_view: bool = False, batch_size: int = BATCH) -> Answer: ...

    @overload
    def predict(
        self, images: list[Any] | tuple[Any, ...], *, any_view: bool = False, batch_size: int = BATCH
    ) -> list[Answer]: ...

    def predict(
        self,
        images: ImageLike | list[Any] | tuple[Any, ...],
        *,
        any_view: bool = False,
        batch_size: int = BATCH,
    ) -> Answer | list[Answer]:
        """Answer for one image, or for each of a list.

        Args:
            images: a file's name or bytes, a PIL image, an array or a CPU tensor, see
                `chexvision.images.reading.as_radiograph`; or a list of these.
            any_view: see `chexvision.images.reading.read_radiograph`.
            batch_size: images per call of the engine.

        Raises:
            UsageError: an image cannot be read; the message says which and why.
            ChexError: the model computes something that is not a number.
        """
        several = isinstance(images, list | tuple)
        listed: Sequence[ImageLike] = images if isinstance(images, list | tuple) else [images]
        named = ((image_name(image, i), _given(image)) for i, image in enumerate(listed))
        answers: list[Answer] = []
        for found in self.answers(named, any_view=any_view, batch_size=batch_size):
            if isinstance(found, Failure):
                raise UsageError(f"image {len(answers)} of the list: {found.reason}" if several else found.reason)
            answers.append(found)
        return answers if several else answers[0]

    def answers(
        self, images: Iterable[tuple[str, Load]], *, any_view: bool = False, batch_size: int = BATCH
    ) -> Iterator[Answer | Failure]:
        """Answer for each image in order, holding few of them in memory.

        Args:
            images: names, and functions that give the image, which may raise OSError or ValueError where it cannot
                be read; called in threads.
            any_view: see `chexvision.images.reading.read_radiograph`.
            batch_size: images per call of the engine.

        Raises:
            ChexError: the model computes something that is not a number.
        """
        for found in self.examined(images, any_view=any_view, batch_size=batch_size):
            yield found if isinstance(found, Failure) else found.answer

    def examined(
        self, images: Iterable[tuple[str, Load]], *, any_view: bool = False, batch_size: int = BATCH
    ) -> Iterator[Examined | Failure]:
        """As `answers`, with the images as the engine takes them."""

        def ready(item: tuple[str, Load]) -> _Ready | Failure:
            name, load = item
            try:
                radiograph = as_radiograph(load(), any_view=any_view)
            except (UsageError, OSError, ValueError) as error:
                return Failure(name, getattr(error, "strerror", None) or str(error))
            return _Ready(name, radiograph.notes, radiograph.warnings, self.engine.prepare(radiograph.pixels))

        # The next batch is read while the engine computes one.
        prepared = map_in_order(ready, images, usable_cores(), 2 * batch_size)
        while batch := list(islice(prepared, batch_size)):
            usable = [one for one in batch if not isinstance(one, Failure)]
            found = iter(self._examine(usable) if usable else ())
            for one in batch:
                yield one if isinstance(one, Failure) else next(found)

    def _examine(self, batch: list[_Ready]) -> Iterator[Examined]:
        names = self.engine.label_space.outputs
        outputs = self.engine.run([one.prepared for one in batch])
        calibrated = self.points.calibrate(names, outputs.probabilities).tolist()
        known = self.points.thresholds.known if self.points.thresholds else {}
        limits = {name: known[name] for name in names if name in known}
        for i, (one, row) in enumerate(zip(batch, calibrated, strict=True)):
            flagged = () if self.check is None or outputs.checks is None else self.check.warnings(outputs.checks[i])
            answer = Answer(
                one.name,
                dict(zip(names, row, strict=True)),
                limits,
                self.facts,
                one.notes,
                (*one.warnings, *flagged),
            )
            yield Examined(answer, one.prepared)


def image_name(image: ImageLike, number: int) -> str:
    """The own name of a file, also of one that PIL has opened; of other images their number."""
    named = image if isinstance(image, str | os.PathLike) else getattr(image, "filename", "")
    return Path(named).name if named else str(number)


def _given(image: ImageLike) -> Load:
    return lambda: image
