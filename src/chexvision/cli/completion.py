"""What the shell completes after options and arguments that take a name."""

from __future__ import annotations

from chexvision.recipes import preset_names, recipe_names


def recipes() -> list[str]:
    """The recipes of ``configs/``."""
    return recipe_names()


def presets() -> list[str]:
    """The presets of ``configs/presets/``."""
    return preset_names()


def run_ids() -> list[str]:
    """The runs with a record on this machine, the last one first."""
    from chexvision_dispatch.run_records import runs_dir

    return sorted((path.stem for path in runs_dir().glob("*.json")), reverse=True)
