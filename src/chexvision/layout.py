"""The project's own folders: in a checkout, an unpacked bundle, or an installed wheel."""

from __future__ import annotations

import os
from pathlib import Path

import platformdirs

PACKAGE_DIR = Path(__file__).resolve().parent


def shared_dir(name: str) -> Path:
    """The folder `name` ("configs" or "kernels") that belongs to this copy of the package.

    A wheel has it as ``chexvision/share/<name>``; a checkout and a bundle have it next to ``src``.

    Raises:
        FileNotFoundError: this copy of the package was built without the folder.
    """
    installed = PACKAGE_DIR / "share" / name
    next_to_src = PACKAGE_DIR.parent.parent / name
    for folder in (installed, next_to_src):
        if folder.is_dir():
            return folder
    raise FileNotFoundError(f"no {name}/ folder in {installed.parent} or {next_to_src.parent}; reinstall chexvision")


def cache_dir() -> Path:
    """The folder of reproducible files: ``CHEXVISION_CACHE``, or the user's cache folder."""
    chosen = os.environ.get("CHEXVISION_CACHE")
    return Path(chosen) if chosen else platformdirs.user_cache_path("chexvision")
