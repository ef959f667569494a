"""Options and arguments that take a name, which the shell completes."""

from __future__ import annotations

from typing import Annotated

import typer


def _recipes() -> list[str]:
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


Model = Annotated[str, typer.Option(help="Recipe of configs/ by name, or a YAML file.", autocompletion=_recipes)]
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
