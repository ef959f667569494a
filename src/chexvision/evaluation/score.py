"""Predictions of any system, measured by the same protocol as our own."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from chexvision import __version__
from chexvision.artifact.metrics_file import RELEASE, Conditions, Evaluation
from chexvision.errors import UsageError
from chexvision.evaluation.protocol import System, evaluate_systems
from chexvision.evaluation.submission import read_submission, restrict
from chexvision.metrics.calibration import Method
from chexvision.metrics.records import IntervalMethod
from chexvision.nih.metadata import Entry
from chexvision.nih.patients import release
from chexvision.shards.split import official_split, read_split_table
from chexvision.shards.split_rule import SplitChoice

_PUBLIC = ("official", "chexnet")  # the split rules that need no shards


def score(
    path: Path,
    entries: dict[str, Entry],
    method: IntervalMethod,
    *,
    split_rule: str | None = None,
    split: str = "test",
    validation: Path | None = None,
    rule: str = "f1",
    calibration: Method | Literal["none"] = "none",
) -> Evaluation:
    """Measure a file of predictions.

    Args:
        path: a table of predictions, see `chexvision.predict.predicted_rows`.
        entries: the release's metadata.
        method: how to make intervals.
        split_rule: restricts to `split` of "official", "chexnet" or a table; all of it must be predicted.
        split: which split.
        validation: predictions of other images to choose thresholds on; without them 0.5 for all.
        rule: of `choose_thresholds`.
        calibration: fitted on `validation`.

    Raises:
        UsageError: a file is not what it should be, or thresholds would be chosen on what they are applied to.
    """
    scored = read_submission(path, entries)
    notes = []
    choice = None if split_rule is None else SplitChoice.parse(split_rule, rules=_PUBLIC)
    if choice is not None:
        table = _patients(choice)
        wanted = {name for name, entry in entries.items() if table.get(entry.patient_id) == split}
        if not wanted:
            raise UsageError(f"{split_rule} has no {split} patient among the labels")
        left = len(scored.predictions)
        scored = restrict(scored, wanted, f"{split} in {choice}")
        if left > len(scored.predictions):
            notes.append(f"{left - len(scored.predictions):,} predictions of other images were left out")
    if scored.unanswered:
        notes.append(f"images without an answer, left out: {scored.unanswered:,}")
    if scored.missing:
        notes.append(f"no column predicts {', '.join(scored.missing)}: left out of the mean")
    if scored.ignored:
        notes.append(f"columns that are not findings were ignored: {', '.join(scored.ignored)}")
    conditions = Conditions(
        version=__version__,
        dataset=RELEASE,
        synthetic=False,
        split="all" if choice is None else split,
        split_rule=None if choice is None else str(choice),
    )
    chosen_on = None if validation is None else read_submission(validation, entries).predictions
    evaluation, _ = evaluate_systems(
        [System(path.name, scored.predictions, chosen_on)],
        conditions,
        scored.groups,
        method,
        rule=rule,
        calibration=calibration,
    )
    return evaluation.model_copy(update={"notes": tuple(notes)})


def _patients(choice: SplitChoice) -> dict[int, str]:
    """The split of each patient."""
    if choice.table is not None:
        return read_split_table(choice.table)
    return official_split() if choice.rule == "official" else release().chexnet
