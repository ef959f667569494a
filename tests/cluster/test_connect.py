"""A command joins a running cluster, or starts its own; what is wrong with an address is one line."""

from __future__ import annotations

import builtins
import socket
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from chexvision.cluster.connect import connected
from chexvision.errors import ChexError, UsageError
from tests.cluster.conftest import TwoNodes, wait_until


def test_work_of_a_killed_node_is_done_by_another(two_nodes: TwoNodes, tmp_path: Path) -> None:
    import ray

    with connected(two_nodes.address) as cluster:
        assert (cluster.started, cluster.cpus) == (False, 2)
        head = ray.get_runtime_context().get_node_id()

        @ray.remote(max_retries=2, num_cpus=1)
        def node(folder: Path) -> str:
            """Its node, once the test lets it end."""
            import time

            here = str(ray.get_runtime_context().get_node_id())
            (folder / here).touch()
            while not (folder / "go").exists():
                time.sleep(0.01)
            return here

        waiting = [node.remote(tmp_path) for _ in range(6)]
        wait_until(lambda: len(list(tmp_path.iterdir())) == 2)  # each node has begun one
        two_nodes.kill()
        (tmp_path / "go").touch()
        assert set(ray.get(waiting)) == {head}
        two_nodes.join()
        wait_until(lambda: cluster.cpus == 2)
    assert not ray.is_initialized()
    with connected(two_nodes.address), pytest.raises(UsageError, match="already"), connected(two_nodes.address):
        pass


def test_an_address_that_cannot_be_joined_is_one_line() -> None:
    for wrong in ("10.0.0.5", "host:port", "ray://host:10001", "host:99999"):
        with pytest.raises(UsageError, match="--address"), connected(wrong):
            pass
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        free = f"127.0.0.1:{held.getsockname()[1]}"  # bound, not listening
        with pytest.raises(ChexError, match="nothing answers at --address") as raised, connected(free):
            pass
    assert "\n" not in str(raised.value)


def test_the_token_that_ray_writes_is_readable_for_its_owner_alone(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    token = tmp_path / ".ray" / "auth_token"

    def init(**_: object) -> SimpleNamespace:
        token.parent.mkdir()
        token.write_text("0" * 64)
        token.chmod(0o644)
        return SimpleNamespace(address_info={"address": "127.0.0.1:6379"})

    monkeypatch.setenv("HOME", str(tmp_path))
    node = SimpleNamespace(is_head=lambda: True)
    ray = SimpleNamespace(init=init, is_initialized=lambda: False, shutdown=lambda: None)
    ray._private = SimpleNamespace(worker=SimpleNamespace(_global_node=node))
    monkeypatch.setattr("chexvision.cluster.connect.ray_module", lambda: ray)
    with connected("local"):
        assert token.stat().st_mode & 0o777 == 0o600


def test_a_missing_ray_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    imported = builtins.__import__

    def without_ray(name: str, *arguments: Any, **named: Any) -> Any:
        if name == "ray":
            raise ImportError(name)
        return imported(name, *arguments, **named)

    monkeypatch.setattr(builtins, "__import__", without_ray)
    with pytest.raises(ChexError, match=r"pip install 'chexvision\[cluster\]'"), connected("local"):
        pass
