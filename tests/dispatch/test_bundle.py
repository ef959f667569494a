"""Packing: the same bytes from the same tree, nothing too large, no token."""

from __future__ import annotations

import io
import os
import random
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from chexvision.errors import ChexError
from chexvision_dispatch import bundle as bundles
from chexvision_dispatch.bundle import Bundle, pack
from chexvision_dispatch.script import SIZE_LIMIT, render, requirements
from tests.dispatch.conftest import PRESET
from tests.dispatch.standin import RECORD


@pytest.fixture
def package(checkout: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A package folder that a test may change, packed instead of ours."""
    shutil.copytree(checkout, tmp_path / "tree")
    folder = tmp_path / "tree" / "src" / "chexvision"
    monkeypatch.setattr("chexvision_dispatch.bundle.PACKAGE_DIR", folder)
    return folder


def sha_packed_from(*paths: Path) -> str:
    code = "import chexvision_dispatch.bundle as b; print(b.PACKAGE_DIR, b.pack().sha256)"
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, paths))}
    done = subprocess.run([sys.executable, "-c", code], env=env, check=True, capture_output=True, text=True)
    where, sha = done.stdout.split()
    assert Path(where).is_relative_to(paths[0])
    return sha


def test_same_tree_gives_the_same_bytes_despite_other_times_and_modes(package: Path) -> None:
    first = pack()
    for path in package.rglob("*.py"):
        os.utime(path, (1, 1))
        path.chmod(0o600)
    assert pack().archive == first.archive


def test_file_of_a_run_may_have_a_name_that_is_long_or_not_ascii(package: Path) -> None:
    name = f"tables/{'split ü ' * 20}.csv"
    with tarfile.open(fileobj=io.BytesIO(pack({name: b"x"}).archive), mode="r:xz") as tar:
        assert name in tar.getnames()


def test_a_changed_byte_changes_the_sha(package: Path) -> None:
    first = pack()
    with (package / "labels.py").open("a") as file:
        file.write("\n")
    assert pack().sha256 != first.sha256


def test_wheel_packs_the_same_bytes_as_the_checkout_it_was_built_from(checkout: Path, tmp_path: Path) -> None:
    site = tmp_path / "site-packages"
    shutil.copytree(checkout / "src" / "chexvision", site / "chexvision")
    shutil.copytree(checkout / "dispatch" / "chexvision_dispatch", site / "chexvision_dispatch")
    for name in ("configs", "kernels"):
        shutil.copytree(checkout / name, site / "chexvision" / "share" / name)
    assert sha_packed_from(site) == sha_packed_from(checkout / "src", checkout / "dispatch")


def test_caches_and_hidden_files_are_excluded(package: Path) -> None:
    before = pack().sizes
    (package / "__pycache__").mkdir(exist_ok=True)
    (package / "__pycache__" / "labels.cpython-311.pyc").write_bytes(b"x")
    (package / ".env").write_text("SECRET=1")
    (package / "labels.py~").write_text("old")
    assert pack().sizes == before


def test_archive_holds_sorted_plain_files_without_owner_or_time(package: Path) -> None:
    with tarfile.open(fileobj=io.BytesIO(pack().archive), mode="r:xz") as tar:
        members = tar.getmembers()
    assert [m.name for m in members] == sorted(m.name for m in members)
    assert {(m.isreg(), m.mtime, m.uid, m.gid, m.uname, m.mode) for m in members} == {(True, 0, 0, 0, "", 0o644)}
    assert {m.name.split("/")[0] for m in members} == {"src", "configs", "kernels"}


@pytest.mark.parametrize(
    "content",
    [
        "TOKEN = 'hf_" + "a" * 34 + "'",
        "hf_oauth_eyJhbGciOiJFZERTQSJ9.eyJzdWIiOiIxIn0.c2lnbmF0dXJl_-x",
        "token: hf_jwt_eyJhbGciOiJFZERTQSJ9.eyJzdWIiOiIxIn0.c2lnbmF0dXJl",
        "KGAT_" + "b" * 32,
        '{"username": "me", "key": "' + "0123456789abcdef" * 2 + '"}',
    ],
)
def test_file_that_looks_like_a_token_is_refused_by_name_without_its_value(package: Path, content: str) -> None:
    (package / "notes.txt").write_text(content)
    with pytest.raises(ChexError, match=r"src/chexvision/notes\.txt") as refused:
        pack()
    assert content not in str(refused.value)
    assert not any(word in str(refused.value) for word in ("aaaa", "bbbb", "0123"))


def test_value_of_a_token_in_the_environment_is_refused_in_any_form(
    package: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KAGGLE_KEY", "an-unusual-key")
    (package / "notes.txt").write_text("remember an-unusual-key")
    with pytest.raises(ChexError, match=r"notes\.txt contains the value of KAGGLE_KEY") as refused:
        pack()
    assert "an-unusual-key" not in str(refused.value)


def test_token_in_the_arguments_of_a_run_is_refused(package: Path) -> None:
    with pytest.raises(ChexError, match="Hugging Face token"):
        render(RECORD, ["train", "--set", "name=hf_" + "a" * 34], pack())


def test_script_above_the_limit_is_refused_with_its_largest_files() -> None:
    noise = random.Random(0).randbytes(900_000)
    bundle = Bundle(noise, "0" * 64, {"src/chexvision/big.bin": 900_000, "src/chexvision/small.py": 10})
    with pytest.raises(ChexError, match=r"a kernel may have 960 kB.*big\.bin \(879 kB\), src/chexvision/small\.py"):
        render(RECORD, ["train"], bundle)


def test_script_of_this_project_is_well_below_the_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bundles, "_PRESET", PRESET)
    script = render(RECORD, ["train"], pack())
    assert len(script.encode()) < 0.7 * SIZE_LIMIT
    compile(script, "script.py", "exec")


@pytest.mark.parametrize("image", ["kaggle", "kaggle-next"])
def test_kaggles_images_satisfy_every_requirement_of_a_session(image: str) -> None:
    text = (Path(__file__).parents[2] / f"constraints-{image}.txt").read_text(encoding="utf-8")
    held = dict(line.split("==") for line in text.splitlines() if line and not line.startswith("#"))
    needed = [Requirement(one) for one in requirements()]
    assert {one.name for one in needed} >= {"torch", "pydantic", "typer"}
    unmet = [str(one) for one in needed if not one.specifier.contains(held[canonicalize_name(one.name)])]
    assert unmet == []
