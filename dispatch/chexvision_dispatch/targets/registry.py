"""The targets by name."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from typing import TYPE_CHECKING

from chexvision.errors import ChexError, UsageError

if TYPE_CHECKING:
    from chexvision_dispatch.run_records import Option
    from chexvision_dispatch.targets.target import Target

TARGETS = {
    "kaggle": "chexvision_dispatch.targets.kaggle:Kaggle",
    "local": "chexvision_dispatch.targets.local:Local",
    "hf-jobs": "chexvision_dispatch.targets.hf_jobs:HfJobs",
    "slurm": "chexvision_dispatch.targets.slurm:Slurm",
}


def target_class(name: str) -> type[Target]:
    """The class of the target `name`.

    Raises:
        ChexError: there is no such target.
    """
    if name not in TARGETS:
        raise ChexError(f"unknown target {name!r}; known are {', '.join(TARGETS)}; was the run dispatched elsewhere?")
    module, _, member = TARGETS[name].partition(":")
    found: type[Target] = getattr(import_module(module), member)
    return found


def new_target(name: str, given: Mapping[str, object], run_id: str, *, dry_run: bool) -> Target:
    """The target `name` for a new run.

    Args:
        name: of the target.
        given: options that were typed, by the names of fields; those of other targets are refused, not ignored.
        run_id: the run.
        dry_run: whether nothing is to be sent.

    Raises:
        UsageError: an option is another target's, or cannot be.
    """
    from pydantic import ValidationError

    from chexvision.files.json_files import first_problem

    target = target_class(name)
    for option in given:
        if option not in target.Options.model_fields:
            owners = [one for one in TARGETS if option in target_class(one).Options.model_fields]
            instead = target.Options.instead.get(option, "leave it out")
            listed = " and ".join(filter(None, (", ".join(owners[:-1]), owners[-1])))
            raise UsageError(f"{flag(option)} is for --on {listed}; with --on {name} {instead}")
    try:
        options = target.Options.model_validate(given)
    except ValidationError as error:
        field = next(map(str, error.errors()[0]["loc"]), "")
        raise UsageError(first_problem(error).replace(field, flag(field) if field else "", 1)) from None
    return target(options.for_run(run_id, dry_run=dry_run), dry_run=dry_run)


def open_target(name: str, recorded: Mapping[str, Option]) -> Target:
    """The target `name` of a run that was dispatched before, with the options of its record.

    Raises:
        ChexError: there is no such target, or its options differ: the record was written by another version.
    """
    from pydantic import ValidationError

    from chexvision.files.json_files import first_problem

    target = target_class(name)
    if any("\0" in option for option in recorded.values() if isinstance(option, str)):
        raise ChexError(f"the options recorded for {name} contain a NUL; dispatch again")
    try:
        return target(target.Options.model_validate(recorded))
    except ValueError as error:
        why = first_problem(error) if isinstance(error, ValidationError) else error
        raise ChexError(f"the options recorded for {name} are another version's ({why}); dispatch again") from None


def flag(option: str) -> str:
    """How the option of a field is typed."""
    return f"--{option.replace('_', '-')}"
