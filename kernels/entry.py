"""Do a run's work where there is nothing but Python, torch and this file.

`chexvision dispatch` writes the packed source and what to run below this text and sends all of it as one script:

    cd working && python ../src/script.py

The folder that it starts in is the one that is kept (on Kaggle /kaggle/working); a script in a folder `src` with a
`working` next to it changes to it. `../input` holds attached data, `../tmp` what is deleted: the unpacked
source and, unless CHEXVISION_CACHE and HF_HOME name other folders, caches. A run that was begun continues from its
latest state: here, in an attached output of an earlier session, or on its branch on the Hub. What is made ends in
`artifact/` or `shards/`, and on the Hub if the session has a token. The exit code is the command's own, 0 for a
session that paused; `progress.json` says which it was. With CHEXVISION_NO_INSTALL set nothing is installed: what is
missing is an error, except what only the export of the model needs. Where CHEXVISION_EXIT_FILE names a file, the exit
code is written there as well. Where CHEXVISION_NODES is "NODES NODE HOST PORT", the script runs on NODES machines at
once, in a folder that they share, and this is machine NODE of them; the first one is HOST.
"""

from __future__ import annotations

import base64
import hashlib
import io
import json
import logging
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tarfile
import tempfile
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from importlib import metadata
from pathlib import Path, PurePosixPath
from typing import IO, Any, NoReturn
from urllib.parse import urlsplit
from urllib.request import getproxies

TORCHRUN = "torch.distributed.run"
# Reinstalling these would break the match with the machine's CUDA.
NEVER_INSTALLED = ("torch", "torchvision")
# Distributions that contain the same module: a second one would overwrite its files.
SAME_MODULE = {"opencv-python-headless": ("opencv-python", "opencv-contrib-python", "opencv-contrib-python-headless")}
KEPT_FOR_EXPORT = ("numpy", "protobuf", "typing_extensions")
HUB = "https://huggingface.co"
CONNECT_S = 10.0
RETRY_AFTER_S = (1.0, 3.0)  # before the Hub is tried again


def main(run: dict[str, Any], payload: str) -> int:
    """Carry out one run: `run` is what dispatch wrote, `payload` the archive as base85 text."""
    began = time.monotonic()
    working = output_folder()
    given, scratch = working.parent / "input", working.parent / "tmp"
    print(f"run {run['run_id']}, bundle {run['bundle_sha256'][:12]}, in {working}", flush=True)
    refuse_what_was_withheld(run["requested"])
    try:
        source = unpack(payload, run["bundle_sha256"], scratch)
        install_missing(run["requirements"], scratch)
        install_for_export(run.get("export_requirements", []), scratch)
        provenance = source / "provenance.json"  # of this session alone: machines share the scratch folder
        provenance.write_text(json.dumps(run["provenance"]), encoding="utf-8")
    except OSError as error:
        fail(f"cannot write to {scratch}: {error.strerror or error}; free some space")
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")  # hundreds of lines in a log that is a file
    sys.path.insert(0, str(source / "src"))
    from chexvision.errors import ChexError
    from chexvision.hub.reference import RepoRef, parse_reference
    from chexvision.runs.branch import RunBranch
    from chexvision.runs.mounts import attached_dataset
    from chexvision.runs.restore import restore
    from chexvision.runs.run_progress import read_progress
    from chexvision.runs.session_token import session_token

    token, destination, branch = None, run["to"], None
    on_hub = destination is not None and isinstance(parse_reference(destination), RepoRef)
    try:
        token = session_token(given)
        if on_hub and token is not None:
            branch = RunBranch(destination, run["run_id"], token.value, run["repo_type"])
        restore(run["run_id"], working, given, scratch, branch)
        arguments = [filled_in(word, source, lambda name: attached_dataset(given, name)) for word in run["arguments"]]
    except ChexError as error:
        fail(str(error).replace(token.value, "***") if token else str(error))
    except OSError as error:
        fail(f"cannot write to {working}: {error.strerror or error}; free some space")
    if token is not None:
        print(f"Hub token: from {token.source}", flush=True)
    elif on_hub:
        print(
            f"WARNING: no Hub token in this session: nothing is sent to {destination}, results stay in {working}",
            flush=True,
        )
        destination = None

    environment = child_environment(source, scratch)
    if token is not None:
        environment["HF_TOKEN"] = token.value
    if destination is None:
        arguments = [word for word in arguments if word != "--private"]  # the command refuses it without --to
    arguments += ["--work", str(working), "--provenance", str(provenance)]
    if run["max_hours"] is not None:
        # Of the session's time, what is left after installing.
        left = max(run["max_hours"] - (time.monotonic() - began) / 3600, 1e-6)
        arguments += ["--max-hours", f"{left:.6f}"]
    arguments += ["--to", destination] if destination is not None else []
    python = launcher() if run["process_per_gpu"] else [sys.executable]
    before = read_progress(working, run["run_id"])
    code, signalled = launch([*python, "-m", "chexvision", *arguments], environment, token.value if token else None)
    now = read_progress(working, run["run_id"])
    if now is None or now == before:
        return code
    # A signal that comes once all is done ends the processes as it does any other.
    done = signalled and now.status == "complete" and (destination is None or now.published is not None)
    # torchrun exits with 1 if the machine sent it a signal, too, even if all of its processes then paused.
    return 0 if now.status == "paused" or done else code


def fail(message: str) -> NoReturn:
    sys.exit(f"error: {message}")


def output_folder() -> Path:
    """The folder whose files are kept, made the current one: Kaggle may start a script in the read-only `src`."""
    script = Path(__file__).resolve()
    working = script.parent.parent / "working"
    if script.parent.name == "src" and working.is_dir():
        os.chdir(working)
    return Path.cwd()


def refuse_what_was_withheld(requested: list[str]) -> None:
    """End a session that lacks what was requested ("GPU", "internet"): Kaggle silently starts it without."""
    found = {"GPU": listed_gpus, "internet": has_internet}
    missing = [name for name in requested if not found[name]()]
    if missing:
        fail(
            f"Kaggle started this session with no {' and no '.join(missing)}, though it requested "
            f"{' and '.join(requested)}; accounts without a verified phone number get neither: verify your phone "
            "number at https://www.kaggle.com/settings, then dispatch again"
        )


def listed_gpus() -> int:
    """How many GPUs the driver lists; torch takes seconds to report it."""
    if shutil.which("nvidia-smi") is None:
        return 0
    listed = subprocess.run(["nvidia-smi", "-L"], check=False, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    return sum(line.startswith(b"GPU ") for line in listed.stdout.splitlines()) if listed.returncode == 0 else 0


def has_internet() -> bool:
    """Whether the Hub accepts a connection, or all of them go through a proxy."""
    hub = urlsplit(os.environ.get("HF_ENDPOINT") or HUB)
    if hub.scheme in getproxies():
        return True
    address = hub.hostname or "", hub.port or (80 if hub.scheme == "http" else 443)
    for wait in (0.0, *RETRY_AFTER_S):
        time.sleep(wait)
        try:
            socket.create_connection(address, timeout=CONNECT_S).close()
            return True
        except OSError as error:
            print(f"no connection to {address[0]}: {error}", flush=True)
    return False


def filled_in(word: str, source: Path, mounted: Callable[[str], Path]) -> str:
    """`word` with the folders of this session for ``{bundle}`` and ``{dataset:OWNER/SLUG}``."""
    word = word.replace("{bundle}", str(source))
    return re.sub(r"\{dataset:([\w-]+/[\w-]+)\}", lambda match: str(mounted(match[1])), word)


def unpack(payload: str, sha256: str, scratch: Path) -> Path:
    """Unpack the archive into a fresh folder below `scratch`; nothing is written unless all of it is as it left."""
    archive = base64.b85decode("".join(payload.split()))
    found = hashlib.sha256(archive).hexdigest()
    if found != sha256:
        fail(f"the bundle has sha256 {found}, not {sha256}: the script was altered; dispatch it again")
    with tarfile.open(fileobj=io.BytesIO(archive), mode="r:xz") as tar:
        members = tar.getmembers()
        for member in members:
            path = PurePosixPath(member.name)
            if not member.isreg() or path.is_absolute() or ".." in path.parts:
                fail(f"the bundle contains {member.name!r}, which is not a plain file inside it; dispatch it again")
        scratch.mkdir(parents=True, exist_ok=True)
        folder = Path(tempfile.mkdtemp(prefix="bundle-", dir=scratch))
        for member in members:
            target = folder / member.name
            target.parent.mkdir(parents=True, exist_ok=True)
            content = tar.extractfile(member)
            if content is not None:
                target.write_bytes(content.read())
    return folder


def install_missing(requirements: list[str], scratch: Path) -> None:
    """Install what is absent or out of range, and leave all else, torch before all, as it is."""
    unmet = [requirement for requirement in requirements if not is_met(requirement)]
    fixed = [requirement for requirement in unmet if re.split(r"[^\w.-]", requirement)[0] in NEVER_INSTALLED]
    if fixed:
        fail(f"this machine lacks {' and '.join(fixed)}, which is never replaced; choose an image that has it")
    if not unmet:
        return
    if os.environ.get("CHEXVISION_NO_INSTALL"):
        fail(f"not installed: {', '.join(unmet)}; type: pip install 'chexvision[train]'")
    print(f"installing {', '.join(unmet)}", flush=True)
    kept = scratch / "keep.txt"
    kept.write_text("".join(f"{name}=={metadata.version(name)}\n" for name in NEVER_INSTALLED), encoding="utf-8")
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-input", "--disable-pip-version-check"]
    if subprocess.run([*pip, "--constraint", str(kept), *unmet], check=False).returncode:
        fail(f"pip could not install {', '.join(unmet)} (above); does the session have internet?")


def install_for_export(requirements: list[str], scratch: Path) -> None:
    """Install what only the export of the trained model needs; without it a run publishes no ``onnx/``.

    Kaggle's image has an old onnx and lacks onnxscript and onnxruntime. numpy and protobuf stay as they are, which
    others of its packages need.
    """
    unmet = [requirement for requirement in requirements if not is_met(requirement)]
    if not unmet or os.environ.get("CHEXVISION_NO_INSTALL"):
        return
    print(f"installing {', '.join(unmet)}", flush=True)
    kept = scratch / "keep_for_export.txt"
    installed = {name: version_of(name) for name in (*NEVER_INSTALLED, *KEPT_FOR_EXPORT)}
    kept.write_text("".join(f"{name}=={version}\n" for name, version in installed.items() if version))
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-input", "--disable-pip-version-check"]
    if subprocess.run([*pip, "--constraint", str(kept), *unmet], check=False).returncode:
        print("WARNING: the model will not be exported to onnx/: pip could not install the above", flush=True)


def version_of(name: str) -> str | None:
    """Of an installed distribution."""
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def is_met(text: str) -> bool:
    """Whether an installed distribution satisfies the requirement."""
    try:
        from packaging.requirements import Requirement
    except ImportError:
        from pip._vendor.packaging.requirements import Requirement  # type: ignore[assignment]

    requirement = Requirement(text)
    for name in SAME_MODULE.get(requirement.name, ()):
        if next(iter(metadata.distributions(name=name)), None) is not None:
            return True
    try:
        return requirement.specifier.contains(metadata.version(requirement.name), prereleases=True)
    except metadata.PackageNotFoundError:
        return False


def child_environment(source: Path, scratch: Path) -> dict[str, str]:
    """What the command runs in: the unpacked source before any installed one, caches where they are deleted."""
    environment = {**os.environ, "PYTHONUNBUFFERED": "1"}
    paths = [str(source / "src"), *filter(None, [os.environ.get("PYTHONPATH")])]
    environment["PYTHONPATH"] = os.pathsep.join(paths)
    environment.setdefault("CHEXVISION_CACHE", str(scratch / "cache"))
    environment.setdefault("HF_HOME", str(scratch / "huggingface"))
    environment.setdefault("NCCL_P2P_DISABLE", "1")  # T4s have no peer-to-peer, and looking for it is known to hang
    return environment


def launcher() -> list[str]:
    """One process for each GPU that torch can use, on each machine; one process where there is one GPU or none."""
    gpus = listed_gpus()
    if gpus > 1:
        count = [sys.executable, "-c", "import torch; print(torch.cuda.device_count())"]
        gpus = int(subprocess.run(count, check=True, stdout=subprocess.PIPE, text=True).stdout)
    print(f"GPUs: {gpus}", flush=True)
    nodes, *which = os.environ.get("CHEXVISION_NODES", "1").split()
    if nodes == "1":
        meeting = ["--standalone"]
    else:
        node, host, port = which
        meeting = ["--nnodes", nodes, "--node_rank", node, "--master_addr", host, "--master_port", port]
    if gpus < 2 and nodes == "1":
        return [sys.executable]
    return [sys.executable, "-m", TORCHRUN, *meeting, "--nproc_per_node", str(max(gpus, 1))]


def launch(command: list[str], environment: dict[str, str], secret: str | None) -> tuple[int, bool]:
    """Run `command` to its end, let it stop on a signal, and print what it writes without the secret.

    Returns:
        Its exit code, as a shell reports it, and whether a signal came.
    """
    # Descriptors are passed on: whoever waits for one of them to be closed waits for the command, too.
    child = subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, close_fds=False
    )
    signalled = threading.Event()

    def on_signal(*_: object) -> None:
        signalled.set()
        ask_to_stop(child.pid, through=TORCHRUN in command)

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, on_signal)
    assert child.stdout is not None  # noqa: S101
    reader = threading.Thread(target=relay, args=(child.stdout, secret), daemon=True)
    reader.start()
    code = child.wait()
    # A stray grandchild that holds the pipe must not hold the session, and with it the GPU, too.
    reader.join(timeout=10)
    return code if code >= 0 else 128 - code, signalled.is_set()


def ask_to_stop(pid: int, through: bool) -> None:
    """Send SIGTERM to process `pid` or, where it is a launcher, `through` it to those it started.

    torchrun passes the signal on, too, but kills after 30 seconds what then still saves or uploads.
    """
    started: list[int] = []
    for each in sorted(Path(f"/proc/{pid}/task").glob("*/children")) if through else []:
        with suppress(OSError):  # a thread that has ended
            started += map(int, each.read_text(encoding="ascii").split())
    for one in started or [pid]:
        with suppress(ProcessLookupError):
            os.kill(one, signal.SIGTERM)


def relay(pipe: IO[bytes], secret: str | None) -> None:
    # newline="" ends a line at \r as well and keeps it, so that progress bars come through as they are.
    for line in io.TextIOWrapper(pipe, encoding="utf-8", errors="replace", newline=""):
        # A log on a full disk must not stop the command, which blocks when its output is not read.
        with suppress(OSError):
            print(line if secret is None else line.replace(secret, "***"), end="", flush=True)


def start(run: dict[str, Any], payload: str) -> NoReturn:
    logging.basicConfig(format="%(message)s", stream=sys.stdout)
    logging.getLogger("chexvision").setLevel(logging.INFO)
    code = 1
    try:
        code = main(run, payload)
    finally:
        if "CHEXVISION_EXIT_FILE" in os.environ:
            Path(os.environ["CHEXVISION_EXIT_FILE"]).write_text(str(code), encoding="utf-8")
    sys.exit(code)
