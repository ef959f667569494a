"""What the catalog says about a recipe, from its files and the table of networks alone: no torch."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from chexvision.backbones import BackboneFacts, facts, forbids_commercial_use
from chexvision.config.recipe import Recipe
from chexvision.errors import UsageError
from chexvision.recipes import About, ResolvedRecipe, load_about, resolve_recipe

if TYPE_CHECKING:
    from chexvision_dispatch.targets.target import GpuHours

TO_BE_SET = "to be set"  # the origin of a value that a recipe leaves to its user
_DEFAULT = "default"


@dataclass(frozen=True, slots=True)
class Summary:
    """A recipe in one row; the keys of ``models list --json``.

    Args:
        recipe: its name.
        reproduces: which system.
        backbone: the network.
        parameters: of the network without its classifier; None for one that is not in the table, as are the next two.
        megabytes: of its weights in fp32.
        gmacs: multiply-adds of a forward pass at `image_size`, in billions.
        image_size: side of the images in pixels.
        weights: what training starts from.
        license: of these weights; None for random ones, and where it is not known.
        non_commercial: whether the license forbids commercial use.
        reported: the published figure.
        split: of the images that figure is of.
        t4_hours: estimated for two T4s, without early stopping.
    """

    recipe: str
    reproduces: str | None
    backbone: str
    parameters: int | None
    megabytes: float | None
    gmacs: float | None
    image_size: int
    weights: str
    license: str | None
    non_commercial: bool
    reported: str | None
    split: str | None
    t4_hours: float


@dataclass(frozen=True, slots=True)
class Phase:
    """A phase of training; `trainable_parameters` is None where torch is not installed."""

    epochs: int
    image_size: int
    lr: float
    schedule: str
    freeze: str | int
    trainable_parameters: int | None


@dataclass(frozen=True, slots=True)
class Setting:
    """A value of the resolved recipe and where it was written: a file, a preset, ``--set`` or the default."""

    value: Any
    origin: str


@dataclass(frozen=True, slots=True)
class Detail:
    """All about a recipe; the keys of ``models show --json``.

    Args:
        summary: its row.
        paper: what it reproduces was published in.
        differs: where it differs from that.
        needs: what a user has to set, by key.
        t4_hours_basis: what the hours are estimated from, or the run that they were measured in.
        parameters: of the model with its heads; None where torch is not installed.
        phases: of training.
        settings: of the resolved recipe, by dotted key.
    """

    summary: Summary
    paper: str | None
    differs: tuple[str, ...]
    needs: Mapping[str, str]
    t4_hours_basis: str
    parameters: int | None
    phases: tuple[Phase, ...]
    settings: Mapping[str, Setting]


def summarize(name: str) -> Summary:
    """The row of a recipe.

    Raises:
        UsageError: no such recipe, or it is not valid.
    """
    resolved, unset = _resolve(name, None, [])
    return _summary(name, resolved, unset)


def describe(name: str, preset: str | None, overrides: Sequence[str], freeze: str | None) -> Detail:
    """All about a recipe.

    Args:
        name: of the recipe, or a file.
        preset: merged into it.
        overrides: applied to it.
        freeze: instead of what it freezes in each phase: none, partial, all or a number of stages.

    Raises:
        UsageError: a value is not valid.
        ChexError: the network has fewer stages than are to be frozen.
    """
    resolved, unset = _resolve(name, preset, overrides)
    if freeze is not None:
        frozen = [f"training.phases.{i}.freeze={freeze}" for i in range(len(resolved.recipe.training.phases))]
        resolved, unset = _resolve(name, preset, [*overrides, *frozen])
    recipe, about = resolved.recipe, resolved.about
    summary, hours = _summary(name, resolved, unset), _hours(recipe)
    total, trainable = _counted(recipe)
    phases = tuple(
        Phase(phase.epochs, phase.image_size or recipe.data.image_size, phase.lr, phase.schedule, phase.freeze, count)
        for phase, count in zip(recipe.training.phases, trainable, strict=True)
    )
    origins = dict(resolved.origins) | dict.fromkeys(unset, TO_BE_SET)
    settings = {
        key: Setting(None if key in unset else value, origins.get(key, _DEFAULT))
        for key, value in _leaves(recipe.model_dump(mode="json"))
        if key != "name"
    }
    return Detail(
        replace(summary, t4_hours=round(hours.hours or 0.0, 1)),
        about.paper if about else None,
        about.differs if about else (),
        unset,
        hours.basis,
        total,
        phases,
        settings,
    )


def _resolve(name: str, preset: str | None, overrides: Sequence[str]) -> tuple[ResolvedRecipe, Mapping[str, str]]:
    """The recipe, and what its user has still to set, by key: the recipe has "none" there."""
    about = load_about(name)
    given = {override.partition("=")[0] for override in overrides}
    unset = {key: how for key, how in (about.needs if about else {}).items() if key not in given}
    return resolve_recipe(name, preset=preset, overrides=[*(f"{key}=none" for key in unset), *overrides]), unset


def _summary(name: str, resolved: ResolvedRecipe, unset: Mapping[str, str]) -> Summary:
    from chexvision_dispatch.gpu_hours import estimated_hours

    recipe, about = resolved.recipe, resolved.about or About(reproduces="")
    network, size = facts(recipe.model.backbone), recipe.data.image_size
    starts = TO_BE_SET if "model.weights" in unset else recipe.model.weights
    license_ = network.license if starts in ("imagenet", TO_BE_SET) else None
    return Summary(
        recipe=Path(name).stem,
        reproduces=about.reproduces or None,
        backbone=recipe.model.backbone,
        parameters=network.parameters,
        megabytes=None if network.parameters is None else round(network.parameters * 4 / 1e6, 1),
        gmacs=_gmacs(network, size),
        image_size=size,
        weights=starts,
        license=license_,
        non_commercial=forbids_commercial_use(license_),
        reported=about.reported,
        split=about.split,
        t4_hours=round(estimated_hours(recipe), 1),
    )


def _gmacs(network: BackboneFacts, size: int) -> float | None:
    """Multiply-adds go with the number of pixels."""
    if network.gmacs is None or network.input_size is None:
        return None
    return round(network.gmacs * (size / network.input_size) ** 2, 1)


def _hours(recipe: Recipe) -> GpuHours:
    """Measured in a run from this machine, or else estimated."""
    from chexvision_dispatch.gpu_hours import gpu_hours
    from chexvision_dispatch.targets.registry import new_target

    return gpu_hours(recipe, new_target("kaggle", {}, recipe.name, dry_run=True))


def _counted(recipe: Recipe) -> tuple[int | None, list[int | None]]:
    """Parameters of the model, and how many of them learn in each phase, counted without allocating any."""
    try:
        import torch
    except ModuleNotFoundError:
        return None, [None] * len(recipe.training.phases)
    from chexvision.models.untrained import build_model

    random = recipe.model_copy(update={"model": recipe.model.model_copy(update={"weights": "none"})})
    with torch.device("meta"):
        model = build_model(random)
    learning: list[int | None] = []
    for phase in recipe.training.phases:
        model.freeze(phase.freeze)
        learning.append(sum(one.numel() for one in model.parameters() if one.requires_grad))
    return sum(one.numel() for one in model.parameters()), learning


def _leaves(tree: Any, key: str = "") -> Iterator[tuple[str, Any]]:
    if isinstance(tree, dict | list):
        for part, value in tree.items() if isinstance(tree, dict) else enumerate(tree):
            yield from _leaves(value, f"{key}.{part}" if key else str(part))
    else:
        yield key, tree


def check_freeze(text: str) -> str:
    """`text` where it is none, partial, all or a number from 1.

    Raises:
        UsageError: it is not.
    """
    if text in ("none", "partial", "all") or (text.isdecimal() and int(text) > 0):
        return text
    raise UsageError(f"--freeze {text}: choose none, partial, all, or a number of stages from 1")
