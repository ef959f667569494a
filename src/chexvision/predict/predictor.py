"""Images to answers: read, prepared in threads, computed in batches, calibrated, checked."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from typing import TypeAlias

from chexvision.errors import UsageError
from chexvision.images.reading import ImageLike, Radiograph, as_radiograph
from chexvision.metrics.operating_points import OperatingPoints
from chexvision.parallel import map_in_order, usable_cores
from chexvision.predict.answer import Answer, Failure, ModelFacts
from chexvision.predict.engine import Engine, Prepared
from chexvision.predict.input_check import InputCheck

_BATCH = 16

Load: TypeAlias = Callable[[], ImageLike]


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

    def answers(
        self, images: Iterable[tuple[str, Load]], *, any_view: bool = False, batch_size: int = _BATCH
    ) -> Iterator[Answer | Failure]:
        """Answer for each image in order, holding few of them in memory.

        Args:
            images: names, and functions that give the image; called in threads.
            any_view: see `chexvision.images.reading.read_radiograph`.
            batch_size: images per call of the engine.

        Raises:
            ChexError: the model computes something that is not a number.
        """

        def ready(item: tuple[str, Load]) -> tuple[str, Radiograph, Prepared] | Failure:
            name, load = item
            try:
                radiograph = as_radiograph(load(), any_view=any_view)
            except UsageError as error:
                return Failure(name, str(error))
            return name, radiograph, self.engine.prepare(radiograph.pixels)

        prepared = map_in_order(ready, images, usable_cores())
        while batch := list(islice(prepared, batch_size)):
            usable = [one for one in batch if not isinstance(one, Failure)]
            found = iter(self._answers(usable) if usable else ())
            for one in batch:
                yield one if isinstance(one, Failure) else next(found)

    def _answers(self, batch: list[tuple[str, Radiograph, Prepared]]) -> Iterator[Answer]:
        names = self.engine.label_space.outputs
        outputs = self.engine.run([prepared for _, _, prepared in batch])
        calibrated = self.points.calibrate(names, outputs.probabilities).tolist()
        limits = self.points.thresholds.known if self.points.thresholds else {}
        for i, ((name, radiograph, _), row) in enumerate(zip(batch, calibrated, strict=True)):
            flagged = () if self.check is None or outputs.checks is None else self.check.warnings(outputs.checks[i])
            yield Answer(
                name,
                dict(zip(names, row, strict=True)),
                {of: limit for of, limit in limits.items() if of in names},
                self.facts,
                radiograph.notes,
                (*radiograph.warnings, *flagged),
            )
