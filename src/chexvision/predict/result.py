"""One row of a prediction's output, the same in every format."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from typing import Final, Literal, TypeAlias

from pydantic import Field

from chexvision.errors import ChexError
from chexvision.foreign import printable
from chexvision.metrics.records import Record
from chexvision.predict.answer import Answer, Failure, ModelFacts
from chexvision.predict.inputs import Source, read_sources
from chexvision.predict.predictor import Predictor

Status: TypeAlias = Literal["ok", "failed", "refused"]
Value: TypeAlias = "str | float | bool | list[str] | None"

FORMAT: Final = 1


class Result(Record):
    """What is said about one image.

    Args:
        format: of the row.
        image: the file's own name; characters that control a terminal are escaped.
        path: the file as it was named; of a member of an archive ``ARCHIVE/MEMBER``.
        status: "ok"; "failed": the image could not be read; "refused": it has warnings, and these were to be refused.
        reason: why there is no answer; null where there is one.
        probabilities: in [0, 1], by output; empty without an answer, as are the next two.
        thresholds: by output, of those that have one.
        calls: by output: whether the probability reaches the threshold.
        model: which model answers.
        engine: what computed it.
        warnings: why the answer may not be valid for this image.
        notes: what was done to the image.
    """

    format: Literal[1] = FORMAT
    image: str
    path: str
    status: Status
    reason: str | None = None
    probabilities: dict[str, float] = Field(default_factory=dict)
    thresholds: dict[str, float] = Field(default_factory=dict)
    calls: dict[str, bool] = Field(default_factory=dict)
    model: ModelFacts
    engine: str
    warnings: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    def columns(self, outputs: tuple[str, ...]) -> dict[str, Value]:
        """The same as values of named columns, which are the same for each image of a model.

        Args:
            outputs: of the model. A name of an output cannot make the name of another column.
        """
        return {
            "image": self.image,
            "path": self.path,
            "status": self.status,
            "reason": self.reason,
            **{f"probability_{name}": self.probabilities.get(name) for name in outputs},
            **{f"threshold_{name}": self.thresholds.get(name) for name in outputs},
            **{f"call_{name}": self.calls.get(name) for name in outputs},
            "model": self.model.model,
            "revision": self.model.revision,
            "run_id": self.model.run_id,
            "trained_on_synthetic_images": self.model.synthetic,
            "calibrated": self.model.calibrated,
            "thresholds_chosen_by": self.model.rule or None,
            "engine": self.engine,
            "warnings": list(self.warnings),
            "notes": list(self.notes),
        }


def result_of(found: Answer | Failure, path: str, model: ModelFacts, engine: str, *, strict: bool) -> Result:
    """The row of an image.

    Args:
        found: of the image.
        path: see `Result`.
        model: which model answers.
        engine: what computes it.
        strict: whether an answer with warnings is refused.
    """
    row = partial(Result, image=printable(found.image), path=printable(path), model=model, engine=engine)
    if isinstance(found, Failure):
        return row(status="failed", reason=printable(found.reason))
    warnings = tuple(printable(text) for text in found.warnings)
    notes = tuple(printable(text) for text in found.notes)
    if strict and warnings:
        return row(status="refused", reason="; ".join(warnings), warnings=warnings, notes=notes)
    return row(
        status="ok",
        probabilities=found.probabilities,
        thresholds=found.thresholds,
        calls=found.calls,
        warnings=warnings,
        notes=notes,
    )


def results_of(
    predictor: Predictor, sources: Sequence[Source], *, any_view: bool = False, strict: bool = False
) -> Iterator[Result]:
    """The row of each image, in order.

    Args:
        predictor: what answers.
        sources: the images.
        any_view: see `chexvision.images.reading.read_radiograph`.
        strict: whether answers with warnings are refused.

    Raises:
        ChexError: the model computes something that is not a number, or an archive is changed meanwhile.
    """
    answers = predictor.answers(read_sources(sources), any_view=any_view)
    count = 0
    for source, found in zip(sources, answers, strict=False):
        if found.image != source.name:
            break  # the archive was replaced
        yield result_of(found, source.path, predictor.facts, predictor.engine.name, strict=strict)
        count += 1
    if count < len(sources):
        raise ChexError(f"{sources[count].path} is not where it was; name the images again")
