"""Predictions of any system: a table of image names and one column per finding, matched with the release's labels."""

from __future__ import annotations

import difflib
import math
import re
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from chexvision.errors import UsageError
from chexvision.labels import ABNORMAL, NIH
from chexvision.metrics.predictions import Predictions
from chexvision.metrics.ranking import Floats
from chexvision.metrics.subgroups import Groups, group_images
from chexvision.nih.metadata import Entry
from chexvision.predict.predicted_rows import predicted_rows

_IMAGE_HEADS = ("imageindex", "image", "filename", "imagename", "imageid", "imagepath", "file", "path", "name", "id")
_PREFIXES = ("prob", "probability", "pred", "prediction", "score", "p")
_OTHER_NAMES = {"normalabnormal": ABNORMAL, "pleuralthickening": "Pleural_Thickening", "pleuraleffusion": "Effusion"}
_CLOSE = 0.85  # a column this similar to a finding is taken for a misspelling


@dataclass(frozen=True, slots=True)
class Scored:
    """Predictions that found their labels.

    Args:
        predictions: in the file's order.
        groups: of the same images, for subgroups.
        missing: findings that no column predicts.
        ignored: columns that are not findings.
        unanswered: images for which `chexvision predict` gives a reason in place of an answer.
    """

    predictions: Predictions
    groups: Groups
    missing: tuple[str, ...]
    ignored: tuple[str, ...]
    unanswered: int = 0


def read_submission(path: Path, entries: dict[str, Entry]) -> Scored:
    """Read predictions and look their images up in the release's metadata.

    Args:
        path: see `predicted_rows`.
        entries: from `read_metadata`.

    Raises:
        UsageError: the file cannot be read, predicts no finding, names an image twice or one that has no label,
            misspells a finding, or holds something else than probabilities.
    """
    rows = predicted_rows(path)
    heads = [head.strip() for head in next(rows, ("", []))[1]]
    image, columns, ignored = _columns(heads, path)
    filenames: list[str] = []
    values: list[list[float]] = []
    seen: set[str] = set()
    unanswered = 0
    for where, cells in rows:
        if not cells:
            unanswered += 1
            continue
        if len(cells) != len(heads):
            raise UsageError(f"{where}: {len(cells)} cells, expected {len(heads)}")
        name = Path(cells[image].strip()).name
        if name in seen:
            raise UsageError(f"{where}: {name} is predicted twice")
        if name not in entries:
            raise UsageError(
                f"{where}: {name or 'a blank'} is not an image of the labels; names are such as 00000013_008.png"
            )
        seen.add(name)
        filenames.append(name)
        values.append([_probability(cells[i], f"{where}, {heads[i]}") for i in columns.values()])
    if not filenames:
        raise UsageError(f"{path} predicts no image")
    found = [entries[name] for name in filenames]
    predictions = Predictions(
        tuple(columns),
        np.array(filenames),
        np.array([entry.patient_id for entry in found], np.int64),
        np.array(values, np.float64),
        _targets(found, filenames)[:, [NIH.outputs.index(name) for name in columns]],
    )
    groups = group_images(
        [entry.sex for entry in found],
        [entry.age for entry in found],
        [entry.view for entry in found],
        [entry.follow_up for entry in found],
    )
    missing = tuple(finding for finding in NIH.findings if finding not in columns)
    return Scored(predictions, groups, missing, ignored, unanswered)


def restrict(scored: Scored, wanted: set[str], what: str) -> Scored:
    """The predictions of the images `wanted`.

    Raises:
        UsageError: one of them is not predicted.
    """
    names = set(scored.predictions.filenames.tolist())
    missing = wanted - names
    if missing:
        raise UsageError(f"{len(missing)} of {len(wanted)} images of {what} are not predicted, first {min(missing)}")
    chosen = np.array([name in wanted for name in scored.predictions.filenames.tolist()])
    groups = {attribute: of[chosen] for attribute, of in scored.groups.items()}
    return replace(scored, predictions=scored.predictions.take(chosen), groups=groups)


def _columns(heads: list[str], path: Path) -> tuple[int, dict[str, int], tuple[str, ...]]:
    """The columns of image names and of each finding's probabilities, findings in canonical order."""
    known = {_bare(output): output for output in NIH.outputs} | _OTHER_NAMES
    image: int | None = None
    found: dict[str, int] = {}
    ignored: list[str] = []
    for i, head in enumerate(heads):
        output = known.get(_bare(head)) or known.get(_without_prefix(head))
        if output is not None:
            if output in found:
                raise UsageError(f"{path} has two columns for {output}: {heads[found[output]]!r} and {head!r}")
            found[output] = i
        elif image is None and _bare(head) in _IMAGE_HEADS:
            image = i
        else:
            close = difflib.get_close_matches(_without_prefix(head), known, n=1, cutoff=_CLOSE)
            if close:
                raise UsageError(f"{path}: column {head!r} is not a finding; did you mean {known[close[0]]!r}?")
            ignored.append(head)
    if image is None:
        raise UsageError(f"{path} has no column of image names; call it 'Image Index', 'image' or 'filename'")
    if not found:
        raise UsageError(
            f"{path} has no column of a finding, such as {NIH.findings[0]!r} or 'prob_{NIH.findings[0]}'"
        )
    return image, {output: found[output] for output in NIH.outputs if output in found}, tuple(ignored)


def _bare(head: str) -> str:
    return re.sub(r"[^a-z0-9]", "", head.lower())


def _without_prefix(head: str) -> str:
    first, _, rest = re.sub(r"[^a-z0-9]+", " ", head.lower()).strip().partition(" ")
    return _bare(rest) if first in _PREFIXES and rest else _bare(head)


def _probability(text: str, where: str) -> float:
    try:
        value = float(text)
    except ValueError:
        raise UsageError(f"{where}: {text.strip()!r} is not a probability") from None
    if math.isnan(value):
        raise UsageError(f"{where}: NaN is not a probability; predict every image or leave it out")
    if not 0 <= value <= 1:
        raise UsageError(f"{where}: {value:g} is outside [0, 1]; turn logits into probabilities first")
    return value


def _targets(entries: list[Entry], filenames: list[str]) -> Floats:
    targets: dict[str, list[float]] = {}
    for entry, name in zip(entries, filenames, strict=True):
        if entry.labels not in targets:
            try:
                findings = NIH.values(entry.labels)
            except ValueError as error:
                raise UsageError(f"the labels of {name}: {error}") from None
            targets[entry.labels] = [*findings, max(findings)]
    return np.array([targets[entry.labels] for entry in entries])
