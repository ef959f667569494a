"""Predictions of images for a console: each of a few, or counts of many."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator

from chexvision.hub.reference import short_names
from chexvision.labels import ABNORMAL
from chexvision.predict.answer import ModelFacts
from chexvision.predict.result import Result
from chexvision.report.table import Column, Row, Table, row

FEW = 8  # images whose probabilities are shown
_REASONS = 5  # different ones that are shown of each kind
_FIRST_COLUMN = 22  # characters; names of findings


class Tally:
    """Counts the results of many images, and keeps the first `FEW`.

    Args:
        keep_all: keep all of them.

    Attributes:
        images: how many results there are.
        kept: results.
        answered: how many have an answer.
        reasons: of failed and refused images, with the number of each.
        rate: images per second.
    """

    def __init__(self, *, keep_all: bool = False) -> None:
        self.images = 0
        self.kept: list[Result] = []
        self.answered = 0
        self.reasons: Counter[str] = Counter()
        self.rate = 0.0
        self._keep_all = keep_all
        self._unanswered: list[Result] = []
        self._warnings: Counter[str] = Counter()
        self._above: Counter[str] = Counter()
        self._sums: defaultdict[str, float] = defaultdict(float)
        self._thresholds: dict[str, float] = {}

    def add(self, result: Result) -> None:
        """Count one more image."""
        self.images += 1
        if self._keep_all or len(self.kept) < FEW:
            self.kept.append(result)
        if result.status != "ok":
            self.reasons[str(result.reason)] += 1
            if len(self._unanswered) < FEW:
                self._unanswered.append(result)
            return
        self.answered += 1
        self._warnings.update(result.warnings)
        self._thresholds |= result.thresholds
        self._above.update(name for name, called in result.calls.items() if called)
        for name, probability in result.probabilities.items():
            self._sums[name] += probability

    def failures(self) -> list[str]:
        """Which images have no answer and why, or the most frequent reasons of more than `FEW`."""
        if self.reasons.total() <= FEW:
            return [f"{one.path}: {one.reason}" for one in self._unanswered]
        listed = [f"{count:,} images: {reason}" for reason, count in self.reasons.most_common(_REASONS)]
        others = len(self.reasons) - len(listed)
        return [*listed, f"and {others:,} other reasons"] if others else listed

    def tables(self, facts: ModelFacts, width: int) -> Iterator[Table]:
        """What a console of `width` characters shows."""
        if self.images > FEW:
            yield self._summary(facts)
            return
        shown = [one for one in self.kept if one.status == "ok"]
        names = short_names([one.path for one in shown])  # CheXpert's images of all patients have the same few
        named = [one.model_copy(update={"image": name}) for one, name in zip(shown, names, strict=True)]
        groups = list(_fitting(named, width))
        for i, group in enumerate(groups):
            yield _probabilities(group, facts, remarks=i + 1 == len(groups))

    def _summary(self, facts: ModelFacts) -> Table:
        answered = self.answered
        rows = [
            row(
                name,
                self._above[name] if name in self._thresholds else None,
                self._above[name] / answered if name in self._thresholds else None,
                self._thresholds.get(name),
                total / answered,
                emphasis=name == ABNORMAL,
            )
            for name, total in sorted(self._sums.items(), key=lambda item: item[0] != ABNORMAL)
        ]
        columns = (
            Column(""),
            Column("at or above threshold", short="positive"),
            Column("share"),
            Column("threshold"),
            Column("mean probability", short="mean"),
        )
        title = f"{answered:,} of {self.images:,} images"
        notes = [f"warning: {count:,} images: {text}" for text, count in self._warnings.most_common(_REASONS)]
        return Table(title, columns, tuple(rows), (*notes, *_remarks(facts), f"{self.rate:,.1f} images per second"))


def _probabilities(group: list[Result], facts: ModelFacts, *, remarks: bool) -> Table:
    names = sorted(group[0].probabilities, key=lambda name: name != ABNORMAL)
    rows: list[Row] = [row(name, *(_cell(one, name) for one in group), emphasis=name == ABNORMAL) for name in names]
    said = [f"warning: {one.image}: {text}" for one in group for text in one.warnings]
    said += [f"{one.image}: {text}" for one in group for text in one.notes]
    star = [f"* reaches the model's threshold ({facts.rule})"] if facts.rule else []
    columns = (Column(""), *(Column(one.image) for one in group))
    notes = (*said, *star, *_remarks(facts)) if remarks else tuple(said)
    return Table("Probabilities", columns, tuple(rows), notes)


def _remarks(facts: ModelFacts) -> tuple[str, ...]:
    return (f"model {facts}", *facts.notices, "for research only, not a diagnosis")


def _cell(result: Result, name: str) -> str:
    mark = "" if not result.thresholds else " *" if result.calls.get(name) else "  "
    return f"{result.probabilities[name]:.3f}{mark}"


def _fitting(results: list[Result], width: int) -> Iterator[list[Result]]:
    """Groups of results whose columns fit side by side into `width` characters."""
    longest = max((len(one.image) for one in results), default=0)
    count = max(1, (width - _FIRST_COLUMN) // (longest + 3))
    for start in range(0, len(results), count):
        yield results[start : start + count]
