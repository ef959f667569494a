"""The targets by name."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any

from chexvision.errors import ChexError
from chexvision_dispatch.run_records import Option
from chexvision_dispatch.targets.target import Target

TARGETS = {
    "kaggle": "chexvision_dispatch.targets.kaggle:Kaggle",
    "local": "chexvision_dispatch.targets.local:Local",
    "hf-jobs": "chexvision_dispatch.targets.hf_jobs:HfJobs",
}


def open_target(name: str, options: Mapping[str, Option]) -> Target:
    """The target `name`, made with its own options.

    Raises:
        UsageError: an option will not do.
        ChexError: there is no such target, or its options differ: the record was written by another version.
    """
    if name not in TARGETS:
        raise ChexError(f"unknown target {name!r}; known are {', '.join(TARGETS)}; was the run dispatched elsewhere?")
    if any("\0" in option for option in options.values() if isinstance(option, str)):
        raise ChexError(f"the options recorded for {name} hold a NUL; dispatch again")
    module, _, member = TARGETS[name].partition(":")
    make: Callable[..., Any] = getattr(import_module(module), member)
    try:
        target: Target = make(**options)
    except TypeError as error:
        raise ChexError(f"the options recorded for {name} are another version's ({error}); dispatch again") from None
    return target
