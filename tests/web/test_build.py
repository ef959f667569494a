"""The committed build of the page is that of the source."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

from chexvision.app.page_files import page_folder

WEB = Path(__file__).parents[2] / "app" / "web"
# What vite.config.ts reads; the build lists the checksums of all files in sources.json.
SOURCES = ("index.html", "package.json", "package-lock.json", "tsconfig.json", "vite.config.ts", "src", "public")


def source_files() -> dict[str, str]:
    """The SHA-256 of every source file of the page, by its path."""
    files = [file for name in SOURCES for file in ((WEB / name), *(WEB / name).rglob("*")) if file.is_file()]
    return {file.relative_to(WEB).as_posix(): hashlib.sha256(file.read_bytes()).hexdigest() for file in files}


def test_the_build_was_made_from_these_sources() -> None:
    built = json.loads((page_folder() / "sources.json").read_text(encoding="utf-8"))
    assert built == source_files(), "run: make app"


def test_the_build_refers_to_no_other_place() -> None:
    names = {file.relative_to(page_folder()).as_posix() for file in page_folder().rglob("*") if file.is_file()}
    page = (page_folder() / "index.html").read_text(encoding="utf-8")
    assert not any(mark in page for mark in ("http://", "https://", 'src="/', 'href="/'))
    assert {"index.html", "chexvision.js", "licenses.txt", "sources.json"} <= names


def test_the_lockfile_pins_checksums_and_names_no_registry() -> None:
    packages = json.loads((WEB / "package-lock.json").read_text(encoding="utf-8"))["packages"]
    installed = {name: package for name, package in packages.items() if name}
    assert all("integrity" in package and "resolved" not in package for package in installed.values())
    wanted = json.loads((WEB / "package.json").read_text(encoding="utf-8"))
    versions = {**wanted["dependencies"], **wanted["devDependencies"]}
    assert all(version[0].isdigit() for version in versions.values())
