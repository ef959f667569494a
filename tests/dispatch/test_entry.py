"""The kernel's entry script as a remote machine runs it: unpacking, installing, launching."""

from __future__ import annotations

import base64
import hashlib
import io
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from chexvision.layout import shared_dir
from chexvision_dispatch.bundle import pack
from chexvision_dispatch.script import render
from tests.dispatch.standin import RECORD
from tests.fakes.hub import FakeHub

Place = Callable[..., "Kernel"]


class Kernel:
    """A script in a folder with Kaggle's layout, started in `starts_in`."""

    starts_in = "working"

    def __init__(self, root: Path, to: str | None, *words: str) -> None:
        self.root = root
        for name in ("working", "input", "tmp", "src"):
            (root / name).mkdir(parents=True)
        bundle = pack()
        record = replace(RECORD, bundle_sha256=bundle.sha256, to=to)
        arguments = ["train", "--model", "densenet", *words]
        (root / "src" / "script.py").write_text(render(record, arguments, bundle))

    def start(self, **environment: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, str(self.root / "src" / "script.py")],
            cwd=self.root / self.starts_in,
            env={**os.environ, **environment},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )

    def run(self, **environment: str) -> tuple[int, str]:
        process = self.start(**environment)
        out, _ = process.communicate(timeout=300)
        return process.returncode, out

    @property
    def seen(self) -> dict[str, Any]:
        seen: dict[str, Any] = json.loads((self.root / "working" / "artifact" / "seen.json").read_text())
        return seen


@pytest.fixture
def kernel(packs_stand_in: None, tmp_path: Path) -> Place:
    return lambda to=None, *words: Kernel(tmp_path / "kaggle", to, *words)


def test_training_runs_from_the_unpacked_source_and_keeps_only_the_artifact(kernel: Place) -> None:
    placed = kernel()
    code, out = placed.run()
    assert code == 0, out
    assert Path(placed.seen["module"]).is_relative_to(placed.root / "tmp")
    assert placed.seen["cwd"] == str(placed.root / "working")
    assert [path.name for path in (placed.root / "working").iterdir()] == ["artifact"]
    assert all(Path(cache).is_relative_to(placed.root / "tmp") for cache in placed.seen["caches"])
    assert "PYTHONUNBUFFERED" in placed.seen["environment"]


def test_session_that_starts_in_src_changes_to_the_working_folder(kernel: Place) -> None:
    placed = kernel()
    placed.starts_in = "src"
    code, out = placed.run()
    assert code == 0, out
    assert placed.seen["cwd"] == str(placed.root / "working")
    assert [path.name for path in (placed.root / "src").iterdir()] == ["script.py"]


@pytest.mark.parametrize("own", [{}, {"NCCL_P2P_DISABLE": "0"}])
def test_nccl_peer_to_peer_is_disabled_unless_set_in_the_environment(kernel: Place, own: dict[str, str]) -> None:
    placed = kernel()
    placed.run(**own)
    assert placed.seen["nccl_p2p_disable"] == own.get("NCCL_P2P_DISABLE", "1")


@pytest.fixture
def smi(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Put an `nvidia-smi` made of these shell lines first on the path."""
    folder = tmp_path / "driver"
    folder.mkdir()
    monkeypatch.setenv("PATH", str(folder), prepend=os.pathsep)

    def write(lines: str) -> None:
        (folder / "nvidia-smi").write_text(f"#!/bin/sh\n{lines}\n")
        (folder / "nvidia-smi").chmod(0o755)

    return write


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        ('echo "GPU 0: Tesla T4 (UUID: GPU-1)"; echo "GPU 1: Tesla T4 (UUID: GPU-2)"', 2),
        ('echo "No devices were found"', 0),
        ('echo "NVIDIA-SMI has failed because it could not communicate with the NVIDIA driver."; exit 9', 0),
        ('echo "GPU 0: Tesla T4 (UUID: GPU-1)"; exit 15', 0),
    ],
)
def test_gpus_are_listed_by_the_driver(
    entry: ModuleType, smi: Callable[[str], None], lines: str, expected: int
) -> None:
    smi(lines)
    assert entry.listed_gpus() == expected


def test_internet_check_connects_to_the_hub(
    entry: ModuleType, fake_hub: FakeHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(entry, "RETRY_AFTER_S", (0.0,))
    monkeypatch.setenv("HF_ENDPOINT", fake_hub.url)
    assert entry.has_internet()
    fake_hub.close()
    assert not entry.has_internet()
    monkeypatch.setenv("HTTP_PROXY", "http://proxy:3128")
    assert entry.has_internet()  # only the proxy resolves it


def test_internet_check_waits_for_a_slow_hub(
    entry: ModuleType, fake_hub: FakeHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    connect, refused = socket.create_connection, [ConnectionRefusedError(), TimeoutError()]

    def connects_later(*address: Any, **options: Any) -> socket.socket:
        if refused:
            raise refused.pop()
        return connect(*address, **options)

    waited: list[float] = []
    monkeypatch.setenv("HF_ENDPOINT", fake_hub.url)
    monkeypatch.setattr(socket, "create_connection", connects_later)
    monkeypatch.setattr("time.sleep", waited.append)
    assert entry.has_internet()
    assert waited == [0.0, *entry.RETRY_AFTER_S]


@pytest.mark.parametrize(
    ("requested", "missing"),
    [(["GPU", "internet"], "no GPU and no internet"), (["internet"], "no internet")],
)
def test_session_without_the_requested_gpu_or_internet_ends_at_once(
    entry: ModuleType,
    smi: Callable[[str], None],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    requested: list[str],
    missing: str,
) -> None:
    smi("exit 9")
    monkeypatch.setattr(entry, "RETRY_AFTER_S", ())
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.chdir(tmp_path)
    run = {"run_id": "r", "bundle_sha256": "0" * 64, "requested": requested}
    with pytest.raises(SystemExit, match=rf"with {missing}, .* verify your phone number at https://www\.kaggle\.com"):
        entry.main(run, "")
    assert not (tmp_path.parent / "tmp").exists()


def test_path_of_the_attached_dataset_is_filled_into_the_arguments(entry: ModuleType, tmp_path: Path) -> None:
    word = entry.filled_in("--a={bundle}/x:{dataset:chex/own}", tmp_path, lambda name: Path("/in", name))
    assert word == f"--a={tmp_path}/x:/in/chex/own"


def test_dataset_that_is_not_attached_ends_the_session(kernel: Place) -> None:
    code, out = kernel(None, "--images", "{dataset:nih-chest-xrays/data}").run()
    assert code == 1
    assert "error: the Kaggle dataset nih-chest-xrays/data is not attached to this session" in out
    assert "Traceback" not in out


def test_provenance_is_taken_from_the_dispatch(kernel: Place) -> None:
    placed = kernel()
    placed.run()
    provenance = placed.seen["provenance"]
    assert provenance["run_id"] == RECORD.run_id
    assert provenance["bundle_sha256"] == pack().sha256
    assert (provenance["source_revision"], provenance["source_dirty"]) == ("1" * 40, False)
    assert (provenance["dispatched_at"], provenance["target"]) == (RECORD.dispatched_at, "local")


def test_without_a_token_training_continues_unpublished_and_reports_it(kernel: Place) -> None:
    placed = kernel("chex/model")
    code, out = placed.run()
    assert code == 0
    assert "WARNING: no Hub token in this session: nothing is sent to chex/model" in out
    assert "--to" not in placed.seen["argv"]


def test_destination_folder_needs_no_token(kernel: Place, tmp_path: Path) -> None:
    placed = kernel(str(tmp_path / "out"))
    _, out = placed.run()
    assert "WARNING" not in out
    assert placed.seen["argv"][-2:] == ["--to", str(tmp_path / "out")]


def test_token_of_an_attached_dataset_reaches_only_training_and_is_masked(kernel: Place, fake_hub: FakeHub) -> None:
    fake_hub.add_token("hf_attached", "write")
    placed = kernel("chex/model")
    (placed.root / "input" / "hub-token").mkdir()
    (placed.root / "input" / "hub-token" / "hf_token.txt").write_text("hf_attached\n")
    _, out = placed.run(HF_TOKEN="")
    assert placed.seen["has_token"]
    assert placed.seen["argv"][-2:] == ["--to", "chex/model"]
    assert "token is ***" in out
    assert "hf_attached" not in out
    kept = [path for folder in ("working", "tmp", "src") for path in (placed.root / folder).rglob("*")]
    assert not [path for path in kept if path.is_file() and b"hf_attached" in path.read_bytes()]


def test_broken_token_file_ends_the_session_before_training(kernel: Place) -> None:
    placed = kernel("chex/model")
    (placed.root / "input" / "hub-token").mkdir()
    (placed.root / "input" / "hub-token" / "hf_token.txt").write_text("two words")
    code, out = placed.run()
    assert code == 1
    assert "error: the attached file" in out
    assert "Traceback" not in out


def test_exit_code_of_training_is_returned(kernel: Place) -> None:
    assert kernel(None, "--exit", "7").run()[0] == 7


def test_bundle_folder_is_filled_into_the_arguments(kernel: Place) -> None:
    placed = kernel(None, "--set", 'data.split="{bundle}/tables/t.csv"')
    placed.run()
    assert f'data.split="{placed.root}/tmp/bundle-' in placed.seen["argv"][4]


def test_sigterm_is_forwarded_to_training_which_exits_by_itself(kernel: Place) -> None:
    placed = kernel()
    (placed.root / "input" / "wait").touch()
    process = placed.start()
    assert process.stdout is not None
    seen = ""
    while "waiting" not in seen:
        seen += process.stdout.readline()
        assert process.poll() is None, seen
    process.terminate()
    out, _ = process.communicate(timeout=300)
    assert "stopping on SIGTERM" in out
    assert process.returncode == 3


def test_signal_that_comes_when_all_is_done_does_not_make_the_session_fail(kernel: Place) -> None:
    placed = kernel()
    code, out = placed.run(STANDIN_EPOCHS="1", STANDIN_SIGNALLED="1")
    assert code == 0, out
    assert json.loads((placed.root / "working" / "progress.json").read_text())["status"] == "complete"


def test_sigterm_is_forwarded_to_each_gpu_process_but_not_to_the_launcher(tmp_path: Path) -> None:
    worker, driver = tmp_path / "worker.py", tmp_path / "driver.py"
    worker.write_text(
        "import os, signal\n"
        "signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])\n"
        "os.write(1, b'waiting\\n')\n"
        "signal.sigwait([signal.SIGTERM])\n"
        "os.write(1, f'saved by {os.environ[\"RANK\"]}\\n'.encode())\n"
    )
    driver.write_text(
        "import os, runpy, sys\n"
        f"entry = runpy.run_path({str(shared_dir('kernels') / 'entry.py')!r})\n"
        "command = [sys.executable, '-m', entry['TORCHRUN'], '--standalone', '--nproc_per_node', '2', sys.argv[1]]\n"
        "sys.exit(entry['launch'](command, dict(os.environ), None)[0])\n"
    )
    words = [sys.executable, str(driver), str(worker)]
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
        assert process.stdout is not None
        seen = ""
        while seen.count("waiting") < 2:
            seen += process.stdout.readline()
            assert process.poll() is None, seen
        process.terminate()
        out, _ = process.communicate(timeout=300)
    assert "saved by 0" in out and "saved by 1" in out
    assert process.returncode == 0  # torchrun exits with 1 if it received the signal itself


def test_training_killed_by_a_signal_ends_with_128_and_its_number(entry: ModuleType) -> None:
    command = [sys.executable, "-c", "import os, signal; os.kill(os.getpid(), signal.SIGKILL)"]
    assert entry.launch(command, dict(os.environ), None) == (128 + signal.SIGKILL, False)


def test_progress_bars_keep_their_carriage_returns(entry: ModuleType, capfd: pytest.CaptureFixture[str]) -> None:
    entry.relay(io.BytesIO(b"1/2\r2/2 hf_x\r\ndone"), "hf_x")
    assert capfd.readouterr().out == "1/2\r2/2 ***\r\ndone"


def test_altered_payload_is_refused_and_nothing_is_unpacked(entry: ModuleType, tmp_path: Path) -> None:
    payload = base64.b85encode(pack().archive + b"x").decode()
    with pytest.raises(SystemExit, match="the script was altered; dispatch it again"):
        entry.unpack(payload, pack().sha256, tmp_path / "scratch")
    assert not (tmp_path / "scratch").exists()


def _member(name: str, kind: bytes = tarfile.REGTYPE, link: str = "") -> tarfile.TarInfo:
    member = tarfile.TarInfo(name)
    member.type, member.linkname = kind, link
    return member


@pytest.mark.parametrize(
    "member",
    [
        _member("../escaped"),
        _member("src/../../escaped"),
        _member("/tmp/chexvision-escaped"),
        _member("link", tarfile.SYMTYPE, "/etc"),
        _member("link", tarfile.LNKTYPE, "../../escaped"),
        _member("pipe", tarfile.FIFOTYPE),
    ],
    ids=lambda member: f"{member.name}-{member.type.decode()}",
)
def test_archive_member_with_a_path_outside_is_refused_before_extraction(
    entry: ModuleType, tmp_path: Path, member: tarfile.TarInfo
) -> None:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:xz") as tar:
        tar.addfile(_member("src/first.py"))
        tar.addfile(member)
    archive = packed.getvalue()
    with pytest.raises(SystemExit, match="not a plain file inside it"):
        entry.unpack(base64.b85encode(archive).decode(), hashlib.sha256(archive).hexdigest(), tmp_path / "a" / "tmp")
    assert list(tmp_path.rglob("*escaped*")) + list(tmp_path.rglob("first.py")) == []
    assert not Path("/tmp/chexvision-escaped").exists()


def test_installed_packages_are_not_reinstalled(
    entry: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(entry.subprocess, "run", None)  # any call would fail
    entry.install_missing(["pydantic>=2", "typer"], tmp_path)
    assert not (tmp_path / "keep.txt").exists()  # not even pip's constraints file


@pytest.mark.parametrize("requirement", ["torch>=99", "torchvision<0.1"])
def test_torch_out_of_range_is_an_error_and_never_installed(
    entry: ModuleType, tmp_path: Path, requirement: str
) -> None:
    with pytest.raises(SystemExit, match=f"lacks {requirement}, which is never replaced"):
        entry.install_missing([requirement, "no-such-distribution"], tmp_path)


def test_on_a_local_machine_missing_packages_are_named_and_not_installed(
    entry: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CHEXVISION_NO_INSTALL", "1")
    with pytest.raises(SystemExit, match=r"not installed: no-such-distribution>=1; type: pip install 'chexvision"):
        entry.install_missing(["no-such-distribution>=1", "typer"], tmp_path)


def test_only_missing_packages_are_installed(
    entry: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wheels, site = tmp_path / "wheels", tmp_path / "site"
    wheels.mkdir()
    with zipfile.ZipFile(wheels / "chex_absent-1.5-py3-none-any.whl", "w") as wheel:
        info = "chex_absent-1.5.dist-info"
        wheel.writestr("chex_absent.py", "")
        wheel.writestr(f"{info}/METADATA", "Metadata-Version: 2.1\nName: chex-absent\nVersion: 1.5\n")
        wheel.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        wheel.writestr(f"{info}/RECORD", f"chex_absent.py,,\n{info}/METADATA,,\n{info}/WHEEL,,\n{info}/RECORD,,\n")
    for name, value in {"NO_INDEX": "1", "FIND_LINKS": str(wheels), "TARGET": str(site)}.items():
        monkeypatch.setenv(f"PIP_{name}", value)
    entry.install_missing(["chex-absent>=1.2", "typer>=0.1"], tmp_path)
    assert sorted(path.name for path in site.glob("*[!_]")) == ["chex_absent-1.5.dist-info", "chex_absent.py"]
    with pytest.raises(SystemExit, match="pip could not install chex-absent>=2"):
        entry.install_missing(["chex-absent>=2"], tmp_path)


def test_another_build_of_opencv_counts_as_opencv(
    entry: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "opencv_contrib_python-4.13.0.dist-info").mkdir()
    (tmp_path / "opencv_contrib_python-4.13.0.dist-info" / "METADATA").write_text("Name: opencv-contrib-python\n")
    assert not entry.is_met("opencv-python-headless>=99")
    monkeypatch.syspath_prepend(tmp_path)
    assert entry.is_met("opencv-python-headless>=99")


@pytest.mark.parametrize(("gpus", "torchrun"), [(1, False), (2, True)])
def test_each_gpu_gets_a_process(
    entry: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, gpus: int, torchrun: bool
) -> None:
    (tmp_path / "nvidia-smi").write_text("#!/bin/sh\n" + 'echo "GPU 0: Tesla T4"\n' * gpus)
    (tmp_path / "nvidia-smi").chmod(0o755)
    (tmp_path / "torch.py").write_text(f"class cuda:\n    device_count = staticmethod(lambda: {gpus})\n")
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    launcher = entry.launcher()
    assert launcher[0] == sys.executable
    assert ("torch.distributed.run" in launcher) is torchrun
    assert not torchrun or launcher[-2:] == ["--nproc_per_node", "2"]


@pytest.mark.skipif(shutil.which("nvidia-smi") is not None, reason="this machine has a GPU driver")
def test_without_a_gpu_there_is_one_plain_process(entry: ModuleType) -> None:
    assert entry.launcher() == [sys.executable]


def test_full_disk_is_a_one_line_error(entry: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "working").mkdir()
    (tmp_path / "tmp").write_text("a file where the folder should be")
    monkeypatch.chdir(tmp_path / "working")
    bundle = pack()
    run = {"run_id": "r", "bundle_sha256": bundle.sha256, "requirements": [], "requested": []}
    with pytest.raises(SystemExit, match=r"error: cannot write to .*tmp: .*; free some space"):
        entry.main(run, base64.b85encode(bundle.archive).decode())
