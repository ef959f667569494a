"""OperatingPoints for the shape of the source tree: small packages, small modules, and no file name twice.

    python -m tests.check_tree

Prints what breaks a rule, a line each, and exits with 1 where anything does. `make lint` runs it.
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
# Commands are named for the nouns that they are about, as the packages below them are.
MAY_REPEAT = ("cli",)


def problems(root: Path) -> Iterator[str]:
    """What breaks a rule below the folders `SOURCES` of `root`, a line each."""
    by_name: dict[str, list[Path]] = defaultdict(list)
    by_package: dict[Path, list[Path]] = defaultdict(list)
    for path in sorted(found for source in SOURCES for found in (root / source).rglob("*.py")):
        path = path.relative_to(root)
        lines = len((root / path).read_text(encoding="utf-8").splitlines())
        if lines > MOST_LINES:
            yield f"{path} has {lines} lines, at most {MOST_LINES} are allowed: divide it"
        if not path.name.startswith("__"):
            by_package[path.parent].append(path)
            if path.parent.name not in MAY_REPEAT:
                by_name[path.name].append(path)
    for package, modules in by_package.items():
        if len(modules) > MOST_FILES:
            yield f"{package} has {len(modules)} modules, at most {MOST_FILES} are allowed: divide the package"
    for name, paths in by_name.items():
        if len(paths) > 1:
            yield f"{name} is the name of {' and '.join(map(str, paths))}: each name is used once"


if __name__ == "__main__":
    found = list(problems(ROOT))
    print("\n".join(found) or "tree: small packages, small modules, no name twice")
    sys.exit(bool(found))
