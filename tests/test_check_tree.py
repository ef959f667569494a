from __future__ import annotations

from pathlib import Path

import pytest

from tests.check_tree import MOST_FILES, MOST_LINES, problems


def write(root: Path, files: dict[str, int]) -> None:
    """Modules of so many lines."""
    for name, lines in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text("x = 1\n" * lines)


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({"src/a/long.py": MOST_LINES + 1}, f"src/a/long.py has {MOST_LINES + 1} lines"),
        ({f"src/a/m{i}.py": 1 for i in range(MOST_FILES + 1)}, f"src/a has {MOST_FILES + 1} modules"),
        (
            {"src/a/same.py": 1, "dispatch/b/same.py": 1},
            "same.py is the name of dispatch/b/same.py and src/a/same.py",
        ),
    ],
)
def test_violation_is_reported(tmp_path: Path, files: dict[str, int], message: str) -> None:
    write(tmp_path, files)
    (problem,) = problems(tmp_path)
    assert message in problem


def test_packages_and_modules_at_the_limits_pass(tmp_path: Path) -> None:
    limits = {f"src/a/m{i}.py": MOST_LINES for i in range(MOST_FILES)}
    write(tmp_path, limits | {"src/a/__init__.py": 1, "src/b/__init__.py": 1, "src/cli/m0.py": 1})
    assert list(problems(tmp_path)) == []
