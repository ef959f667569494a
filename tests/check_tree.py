"""Checks the shape of the source tree: small packages, small modules, and unique file names.

    python -m tests.check_tree

Prints one line per violation and exits with 1 if there are any. `make lint` runs it.
"""

from __future__ import annotations

import sys
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
SOURCES = ("src", "dispatch")
MOST_FILES = 15  # modules of a package, without its __init__.py
MOST_LINES = 320
# Commands have the names of the packages that they use.
MAY_REPEAT = ("cli",)


def problems(root: Path) -> Iterator[str]:
    """The violations below the folders `SOURCES` of `root`, one line each."""
    by_name: dict[str, list[Path]] = defaultdict(list)
    by_package: dict[Path, list[Path]] = defaultdict(list)
    for path in sorted(found for source in SOURCES for found in (root / source).rglob("*.py")):
        path = path.relative_to(root)
        lines = len((root / path).read_text(encoding="utf-8").splitlines())
        if lines > MOST_LINES:
            yield f"{path} has {lines} lines, at most {MOST_LINES} are allowed: split it"
        if not path.name.startswith("__"):
            by_package[path.parent].append(path)
            if path.parent.name not in MAY_REPEAT:
                by_name[path.name].append(path)
    for package, modules in by_package.items():
        if len(modules) > MOST_FILES:
            yield f"{package} has {len(modules)} modules, at most {MOST_FILES} are allowed: split the package"
    for name, paths in by_name.items():
        if len(paths) > 1:
            yield f"{name} is the name of {' and '.join(map(str, paths))}: use each name once"


if __name__ == "__main__":
    found = list(problems(ROOT))
    print("\n".join(found) or "tree: packages and modules are small, file names are unique")
    sys.exit(bool(found))
