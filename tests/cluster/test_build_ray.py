"""Shards built on a cluster, whatever happens to its nodes, are those built on one core."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from chexvision.cluster.connect import Cluster, connected
from chexvision.cluster.ray_build import make_shard, shards_on
from chexvision.errors import ChexError
from chexvision.images.sources import Index, find_images
from chexvision.releases import nih14
from chexvision.shards.build import build_shards
from chexvision.shards.manifest import Manifest
from chexvision.shards.planned.ledger import FINISHED, Built
from chexvision.shards.planned.make import Work
from tests.cluster.agents import ROOT
from tests.cluster.conftest import TwoNodes, wait_until
from tests.cluster.gated import GatedFolder, waiting
from tests.shards.conftest import Release, options, png, tree

CHOSEN = options(shard_bytes=50_000, max_bad=0.1, workers=1)


@pytest.fixture
def release(tmp_path: Path) -> Release:
    made = Release(tmp_path / "nih")
    made.put(made.names[5], b"not an image")
    return made


@pytest.fixture
def expected(release: Release, tmp_path: Path) -> dict[str, bytes]:
    """What one core builds."""
    return built_on_one_core(release, tmp_path / "one_core")


def built_on_one_core(release: Release, out: Path) -> dict[str, bytes]:
    build_shards([release.root], release.metadata, out, CHOSEN)
    return tree(out)


def build_on(cluster: Cluster, release: Release, out: Path) -> Manifest:
    chosen = replace(CHOSEN, workers=0)
    return build_shards([release.root], release.metadata, out, chosen, make=shards_on(cluster), kept=True)


def release_folder(index: Index) -> Path:
    """The folder that holds all images of `index`."""
    (folder,) = {found.container for found in index.images}
    assert isinstance(folder, Path)
    return folder


@pytest.fixture
def gate(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of a gate at which each image of the release waits."""
    folder = tmp_path / "gate"
    folder.mkdir()

    def gated(places: list[Path]) -> Index:
        index = find_images(places)
        return Index(
            tuple(
                replace(found, container=GatedFolder(Path(str(found.container)), folder)) for found in index.images
            ),
            index.duplicates,
        )

    monkeypatch.setattr(nih14, "find_images", gated)
    return folder


def in_a_thread(act: Callable[[], object]) -> Callable[[], None]:
    """Begin `act`; the returned function waits for its end and raises what it raised."""
    raised: list[BaseException] = []

    def run() -> None:
        try:
            act()
        except BaseException as error:  # noqa: BLE001  # raised in the test's own thread
            raised.append(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()

    def end() -> None:
        thread.join(240)
        assert not thread.is_alive()
        if raised:
            raise raised[0]

    return end


def test_a_node_killed_while_it_works_changes_no_byte(
    two_nodes: TwoNodes, release: Release, expected: dict[str, bytes], gate: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    with connected(two_nodes.address) as cluster:
        end = in_a_thread(lambda: build_on(cluster, release, out))
        try:
            wait_until(lambda: len(waiting(gate)) == 2)  # a task on each node has begun a shard
            two_nodes.kill()
            two_nodes.join()
            wait_until(lambda: len(waiting(gate)) == 3)  # the new node has begun one too
        finally:
            (gate / "go").touch()
        end()
    assert tree(out) == expected
    assert not (tmp_path / "out.partial").exists()


def test_an_interrupted_build_continues_after_its_finished_shards(
    two_nodes: TwoNodes, release: Release, expected: dict[str, bytes], tmp_path: Path
) -> None:
    out = tmp_path / "out"
    words = ["shards", "build", "--images", str(release.root), "--metadata", str(release.metadata), "--size", "32"]
    words += ["--out", str(out), "--shard-size", "50kB", "--max-bad", "0.1", "--on", "ray"]
    cut = [sys.executable, "-m", "tests.cluster.cut_command", "SIGINT", "2"]
    build = subprocess.run(
        [*cut, *words, "--address", two_nodes.address], cwd=ROOT, stderr=subprocess.PIPE, text=True, check=False
    )
    assert build.returncode == 130, build.stderr
    assert "Traceback" not in build.stderr
    records = tmp_path / "out.partial" / FINISHED
    made = {path: path.stat().st_mtime_ns for path in (tmp_path / "out.partial" / "data").glob("*.parquet")}
    finished = {json.loads(path.read_text())["shard"]["path"] for path in records.glob("*.json")}
    assert len(finished) >= 2
    with connected(two_nodes.address) as cluster:
        build_on(cluster, release, out)
    assert tree(out) == expected
    for path, when in made.items():
        if f"data/{path.name}" in finished:
            assert (out / "data" / path.name).stat().st_mtime_ns == when


def test_what_a_task_raises_is_one_line(
    two_nodes: TwoNodes, release: Release, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with connected(two_nodes.address) as cluster:
        for name in release.names[::4]:
            release.put(name, b"not an image")
        with pytest.raises(ChexError, match=r"of 40 images are bad, more than --max-bad 0\.1") as raised:
            build_on(cluster, release, tmp_path / "bad")
        assert "\n" not in str(raised.value)

        def changed(work: Work) -> Iterator[Built]:
            release.put(release.names[1], png(1000))
            yield from shards_on(cluster)(work)

        with pytest.raises(ChexError, match=f"{release.names[1]} was changed, moved or removed after it was listed"):
            build_shards(
                [release.root], release.metadata, tmp_path / "changed", replace(CHOSEN, max_bad=0.5), make=changed
            )
        monkeypatch.setattr("chexvision.shards.planned.make.__version__", "another")
        with pytest.raises(ChexError, match="a node has another version of chexvision"):
            build_on(cluster, release, tmp_path / "version")


def test_a_node_that_lacks_a_folder_ends_the_build(release: Release, tmp_path: Path) -> None:
    planned: list[Any] = []

    def note(work: Any) -> Any:
        planned.append((work.shards[0], work.recipe, work.output, work.recipe.key(work.shards[0])))
        raise ChexError("enough")

    with pytest.raises(ChexError, match="enough"):
        build_shards([release.root], release.metadata, tmp_path / "out", CHOSEN, make=note, kept=True)
    (tmp_path / "out.partial").rename(tmp_path / "elsewhere")
    with pytest.raises(ChexError, match="is not there on a node; name a folder that all nodes share"):
        make_shard(*planned[0])
    release.root.rename(tmp_path / "moved")
    with pytest.raises(ChexError, match="is not there on a node; put --images"):
        make_shard(*planned[0])
