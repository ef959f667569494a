"""torchrun with two agents on loopback: two machines, each with folders of its own."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def free_port() -> int:
    """A port of loopback that is free now."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port: int = found.getsockname()[1]
        return port


def run_on_two_machines(folder: Path, *command: str, processes: int = 1) -> list[str]:
    """Run ``python -m COMMAND`` by two agents, and return what each wrote to stdout.

    Args:
        folder: gets a cache for each machine.
        command: the module and its arguments; in these, ``{node}`` is 0 on the one machine and 1 on the other.
        processes: on each of them.
    """
    launcher = ["-m", "torch.distributed.run", "--nnodes=2", f"--nproc_per_node={processes}", "--rdzv-backend=c10d"]
    launcher += [f"--rdzv-endpoint=127.0.0.1:{free_port()}", "--rdzv-id=test", "--local-addr=127.0.0.1"]
    agents = []
    for node in ("0", "1"):
        environment = os.environ | {"CHEXVISION_CACHE": str(folder / f"cache{node}")}
        words = [sys.executable, *launcher, "-m", *_of_node(command, node)]
        with (folder / f"errors{node}").open("wb") as errors:
            agents.append(
                subprocess.Popen(words, cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=errors, text=True)
            )
    try:
        outputs = [agent.communicate(timeout=240)[0] for agent in agents]
    finally:
        for agent in agents:
            agent.kill()
    for number, agent in enumerate(agents):
        assert agent.returncode == 0, (folder / f"errors{number}").read_text()[-3000:]
    return outputs


def _of_node(words: Sequence[str], node: str) -> list[str]:
    return [word.replace("{node}", node) for word in words]
