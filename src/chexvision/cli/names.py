"""Options and arguments that several commands have; the shell completes their names."""

from __future__ import annotations

from typing import Annotated

import typer

from chexvision_dispatch.targets.registry import TARGETS

DEFAULT_TARGET = next(iter(TARGETS))


def _known_target(name: str) -> str:
    if name not in TARGETS:
        raise typer.BadParameter(f"{name!r} is not one of {', '.join(map(repr, TARGETS))}.")
    return name


def known_recipes() -> list[str]:
    """The names of all recipes."""
    from chexvision.recipes import recipe_names

    return recipe_names()


def _presets() -> list[str]:
    from chexvision.recipes import preset_names

    return preset_names()


def _studies() -> list[str]:
    from chexvision_dispatch.studies.study_file import study_names

    return study_names()


def _run_ids() -> list[str]:
    from chexvision_dispatch.run_records import runs_dir

    return sorted(path.stem for path in runs_dir().glob("*.json"))


Model = Annotated[str, typer.Option(help="Recipe of configs/ by name, or a YAML file.", autocompletion=known_recipes)]
Preset = Annotated[
    str | None,
    typer.Option(help="Preset to merge into the recipe, such as smoke.", autocompletion=_presets),
]
StudyName = Annotated[
    str,
    typer.Argument(
        metavar="STUDY", help="Study of configs/studies/ by name, or a YAML file.", autocompletion=_studies
    ),
]
Run = Annotated[
    str | None,
    typer.Argument(metavar="[RUN]", show_default=False, help="Run id, or a prefix of it.", autocompletion=_run_ids),
]
Where = Annotated[
    str,
    typer.Option(
        metavar=f"[{'|'.join(TARGETS)}]",
        help="Where to run.",
        callback=_known_target,
        autocompletion=lambda: list(TARGETS),
    ),
]
Data = Annotated[
    str | None,
    typer.Option(help="Dataset USER/NAME[@REVISION], or on this machine a folder of shards. [default: the recipe's]"),
]
Overrides = Annotated[
    list[str] | None, typer.Option("--set", metavar="A.B=C", help="Change one value of the recipe; repeatable.")
]
PrivateModel = Annotated[
    bool, typer.Option("--private", help="Create the model's repository so that only you see it.")
]
Force = Annotated[bool, typer.Option("--force", help="Dispatch even if the GPU quota will not last.")]
