"""A Ray cluster to compute on: one that runs, or one on this machine for as long as a command takes."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from chexvision.errors import ChexError, UsageError

LOCAL = "local"  # an address: a cluster of this machine alone, whatever else runs
_SECONDS = 10.0  # until something answers at an address; Ray itself would try for minutes
# Read by Ray when it is imported, or by the processes it starts.
_QUIET = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",  # without it each task warns of a change to come
    # Ray prints messages about nodes, such as one that died, to stdout, where results and JSON are.
    "RAY_DEDUP_LOGS": "1",
    "RAY_DEDUP_LOGS_SKIP_REGEX": ".",
}
# Ray replaces 127.0.0.1 by the machine's own address, and would listen there, unless told to run on one machine.
_ONE_MACHINE = "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"


@dataclass(frozen=True, slots=True)
class Cluster:
    """A cluster that this process is connected to.

    Args:
        address: ``HOST:PORT`` of its head node.
        started: whether it runs only for this command.
    """

    address: str
    started: bool

    @property
    def cpus(self) -> int:
        """CPUs of all nodes that are alive now."""
        return int(ray_module().cluster_resources().get("CPU", 0))


@contextmanager
def connected(address: str = "") -> Iterator[Cluster]:
    """Join a Ray cluster, or start one on loopback; at the end leave it, or stop it if it was started.

    Args:
        address: ``HOST:PORT`` of the head node. Where empty: the cluster that ``ray start`` started on this machine,
            or a new one if there is none. ``local``: always a new one.

    Raises:
        UsageError: the address is not of this form, or this process is connected already.
        ChexError: Ray is not installed, nothing answers, or the cluster refuses: another token, or another version of
            Ray or Python.
    """
    address = address.strip()
    if address and address != LOCAL:
        _check_answers(address)
    for name, value in _QUIET.items():
        os.environ.setdefault(name, value)
    if not address or address == LOCAL or address.startswith(("127.", "localhost:")):
        os.environ.setdefault(_ONE_MACHINE, "0")
    ray = ray_module()
    if ray.is_initialized():
        raise UsageError("this process is connected to a Ray cluster already; call ray.shutdown() first")
    try:
        context = _join(ray, address)
        _protect_token()
        yield Cluster(str(context.address_info["address"]), started=ray._private.worker._global_node.is_head())
    finally:
        ray.shutdown()


def ray_module() -> Any:
    """Ray, imported now: most of its functions have no types."""
    try:
        import ray
    except ImportError:
        raise ChexError("--on ray needs Ray, which is not installed: pip install 'chexvision[cluster]'") from None
    return ray


def _join(ray: Any, address: str) -> Any:
    quiet: dict[str, Any] = {"include_dashboard": False, "logging_level": "ERROR", "log_to_driver": False}
    try:
        return ray.init(address=address or None, **quiet)
    except ray.exceptions.AuthenticationError:
        raise ChexError(
            f"the Ray cluster at {address} refuses the token; copy ~/.ray/auth_token of its head node to this "
            "machine, or name the file in RAY_AUTH_TOKEN_PATH"
        ) from None
    except (RuntimeError, ValueError, OSError, ray.exceptions.RayError) as error:
        reason = " ".join(str(error).split())[:300]
        raise ChexError(f"no connection to Ray{f' at {address}' if address else ''}: {reason}") from None


def _protect_token() -> None:
    """Ray writes its token readable for all users of the machine, who could then run programs on the cluster."""
    token = Path.home() / ".ray" / "auth_token"
    with suppress(OSError):  # there is none, or a folder that cannot be written
        token.chmod(0o600)


def _check_answers(address: str) -> None:
    host, _, port = address.rpartition(":")
    if "://" in address:
        raise UsageError(f"--address {address} is of the Ray client; run on one of the nodes and write HOST:PORT")
    if not host or not port.isdigit() or not 0 < int(port) < 2**16:
        raise UsageError(f"--address {address} is not HOST:PORT of a head node, such as 10.0.0.5:6379")
    try:
        socket.create_connection((host.strip("[]"), int(port)), _SECONDS).close()
    except OSError as error:
        reason = error.strerror or str(error)
        raise ChexError(
            f"nothing answers at --address {address} ({reason}); start a head node with: ray start --head"
        ) from None
