"""Options of `chexvision dispatch` that belong to its targets, derived from their classes once they are needed.

Importing the targets takes longer than the rest of `chexvision --help`.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from copy import copy
from functools import cache
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperCommand, TyperGroup
from typer.models import OptionInfo

from chexvision_dispatch.targets.registry import TARGETS, target_class

if TYPE_CHECKING:
    from pydantic.fields import FieldInfo

_GIVEN = "chexvision.target_options"  # in a context's `meta`


def given_options(context: typer.Context) -> Mapping[str, object]:
    """The targets' options that were typed, by the names of their fields."""
    given: Mapping[str, object] = context.meta.get(_GIVEN, {})
    return given


class _WithTargets:
    """Adds the options of all targets to a command's own."""

    takes_gpu = True

    def get_params(self, ctx: Any) -> list[Any]:
        """Its own, the targets', and ``--help``."""
        *own, last = super().get_params(ctx)  # type: ignore[misc]
        return [*own, *_parameters(tuple(TARGETS), gpu=self.takes_gpu), last]


class GroupWithTargets(_WithTargets, TyperGroup):
    """A group that has the options of all targets as well."""


class CommandWithTargets(_WithTargets, TyperCommand):
    """A command that takes no GPU and has the options of all targets for such work as well."""

    takes_gpu = False


@cache
def _parameters(targets: tuple[str, ...], *, gpu: bool) -> list[Any]:
    """The options of `targets` as Typer makes them of a function's parameters."""
    fields: dict[str, list[tuple[str, FieldInfo]]] = {}
    for target in targets:
        options = target_class(target).Options
        for name, field in options.model_fields.items():
            if gpu or name not in options.for_gpu:
                fields.setdefault(name, []).append((target, field))

    def options_of_targets(**options: object) -> None: ...

    options_of_targets.__signature__ = inspect.Signature(  # type: ignore[attr-defined]
        [
            inspect.Parameter(
                name,
                inspect.Parameter.KEYWORD_ONLY,
                default=None,
                annotation=Annotated[owners[0][1].annotation | None, _option(owners)],  # type: ignore[operator]
            )
            for name, owners in fields.items()
        ]
    )
    app = typer.Typer(add_completion=False, rich_markup_mode=None)
    app.command()(options_of_targets)
    return list(typer.main.get_command(app).params)


def _option(owners: list[tuple[str, FieldInfo]]) -> OptionInfo:
    """The declared option, with a help text that names its targets and their default."""
    targets: dict[str, list[str]] = {}
    for target, field in owners:
        declared: OptionInfo = next(one for one in field.metadata if isinstance(one, OptionInfo))
        targets.setdefault(declared.help or "", []).append(target)
    option, default = copy(declared), owners[0][1].default
    option.help = " ".join(f"(--on {' and '.join(names)}) {text}" for text, names in targets.items())
    if default not in (None, False):
        option.help += f"  [default: {default:g}]" if isinstance(default, float) else f"  [default: {default}]"
    option.show_default, option.expose_value, option.callback = False, False, _keep
    return option


def _keep(context: typer.Context, parameter: typer.CallbackParam, value: Any) -> Any:
    source = context.get_parameter_source(str(parameter.name))
    if source is not None and source.name == "COMMANDLINE":
        context.meta.setdefault(_GIVEN, {})[parameter.name] = value
    return value
