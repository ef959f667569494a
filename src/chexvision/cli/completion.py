"""Names that the shell completes."""

from __future__ import annotations


def recipes() -> list[str]:
    """The recipes of ``configs/``."""
    from chexvision.recipes import recipe_names

    return recipe_names()


def presets() -> list[str]:
    """The presets of ``configs/presets/``."""
    from chexvision.recipes import preset_names

    return preset_names()


def run_ids() -> list[str]:
    """The runs that have a record on this machine."""
    from chexvision_dispatch.run_records import runs_dir

    return sorted(path.stem for path in runs_dir().glob("*.json"))
