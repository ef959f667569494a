"""The data that a model was trained on and their split, as it records them."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain

from chexvision.artifact.contents import RUN, RunInfo, read_run
from chexvision.artifact.ensemble_file import member_folder, read_ensemble
from chexvision.errors import ChexError, UsageError
from chexvision.hub.reference import Reference
from chexvision.hub.repo_files import ENSEMBLE, model_file
from chexvision.shards.split import VALIDATION_SHARE
from chexvision.shards.split_rule import SHARDS, SplitChoice


def split_for(
    names: Sequence[str], references: Sequence[Reference], asked: str | None, identity: str | None = None
) -> SplitChoice:
    """The split to measure models on: the one asked for, or else their own.

    A model without a record of how its images were divided takes the shards' own split, as does one that was trained
    on a mixture without these. The members of an ensemble have one split.

    Args:
        names: what to call each model.
        references: where each is, in the same order.
        asked: a rule's name or a table's path.
        identity: of the shards to measure, which tells which data set of a mixture they are.

    Raises:
        UsageError: the models have different splits, or one by a table that is not published.
        ChexError: a model's record cannot be fetched.
    """
    if asked is not None:
        return SplitChoice.parse(asked)
    own = {name: _own(name, reference, identity) for name, reference in zip(names, references, strict=True)}
    known = {name: choice for name, choice in own.items() if choice is not None}
    if len(set(known.values())) > 1:
        listed = ", ".join(f"{name}: {choice}" for name, choice in known.items())
        raise UsageError(f"the models were trained with different splits ({listed}); name one with --split-rule")
    return next(iter(known.values()), SHARDS)


def training_data(reference: Reference) -> frozenset[str] | None:
    """The identities of the datasets that a model, or all members of an ensemble, were trained on.

    None where a model has no record of it.

    Raises:
        ChexError: a record cannot be fetched.
    """
    ensemble = model_file(reference, ENSEMBLE)
    folders = [""]
    if ensemble is not None:
        folders = [f"{member_folder(number)}/" for number in range(1, len(read_ensemble(ensemble).members) + 1)]
    runs = [_run(reference, folder) for folder in folders]
    known = [run.identities for run in runs if run is not None]
    return frozenset(chain.from_iterable(known)) if len(known) == len(runs) else None


def _run(reference: Reference, folder: str) -> RunInfo | None:
    path = model_file(reference, f"{folder}{RUN}")
    try:
        return None if path is None else read_run(path)
    except ChexError:
        return None  # an untrusted file: the model counts as one without a record


def _own(name: str, reference: Reference, identity: str | None) -> SplitChoice | None:
    run = _run(reference, "") or _run(reference, f"{member_folder(1)}/")
    split = None if run is None else run.split_of(identity)
    if split is None:
        return None
    if split.rule == "table":
        sha256 = (split.table_sha256 or "")[:12]
        raise UsageError(
            f"{name} was trained with the split table {split.table} (sha256 {sha256}…), which is not published "
            f"with it; name it, or another split: --split-rule {split.table}"
        )
    return SplitChoice.parse(split.rule, split.validation_share or VALIDATION_SHARE)
