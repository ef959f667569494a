"""One session of a fake Kaggle: the pushed script, running in its own process."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

NVIDIA_SMI = """\
#!/bin/sh
echo "GPU 0: Tesla T4 (UUID: GPU-00000000-0000-0000-0000-000000000000)"
"""

SECRETS_MODULE = '''\
"""Replaces the module of the same name in Kaggle's image; sends the same request to the same address."""

import json
import os
import urllib.error
import urllib.request


class CredentialError(Exception):
    pass


class BackendError(Exception):
    pass


class ValidationError(Exception):
    pass


class UserSecretsClient:
    def __init__(self):
        self._token = os.environ.get("KAGGLE_USER_SECRETS_TOKEN")
        if self._token is None:
            raise CredentialError("A JWT Token is required to call Kaggle, but none found in the environment")

    def get_secret(self, label):
        if label is None or len(label) == 0:
            raise ValidationError("Label must be non-empty.")
        request = urllib.request.Request(
            os.environ["KAGGLE_URL_BASE"] + "/requests/GetUserSecretByLabelRequest",
            data=json.dumps({"Label": label}).encode(),
            headers={"Content-type": "application/json", "X-Kaggle-Authorization": "Bearer " + self._token},
        )
        try:
            with urllib.request.urlopen(request, timeout=40) as response:
                answer = json.load(response)
        except urllib.error.HTTPError as error:
            raise CredentialError("Service responded with error code %d." % error.code) from error
        except urllib.error.URLError as error:
            raise ConnectionError("Connection error trying to communicate with service.") from error
        if not answer.get("wasSuccessful") or "result" not in answer:
            raise BackendError("Unexpected response from the service. Response: %s." % answer)
        return answer["result"]["secret"]
'''


@dataclass(eq=False)
class Session:
    """A session, in its own folder that replaces `/`.

    `folder/kaggle/working` is the only kept folder, and where scripts start by default; next to it are `input`, `tmp`
    and `src/script.py`. `gpu` says whether it has one. `extra_files` are listed among the outputs under any name a
    test likes.
    """

    ref: str
    number: int
    folder: Path
    request: dict[str, Any]
    datasets: list[str]
    gpu: bool
    python: str
    environment: Mapping[str, str]
    starts_in: str = "working"
    status: str = "QUEUED"
    failure_message: str | None = None
    exit_code: int | None = None
    events: list[dict[str, Any]] = field(default_factory=list)
    extra_files: dict[str, bytes] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._changed = threading.Condition()
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def working(self) -> Path:
        return self.folder / "kaggle" / "working"

    @property
    def done(self) -> bool:
        return self.status in ("COMPLETE", "ERROR", "CANCEL_ACKNOWLEDGED")

    @property
    def log(self) -> str:
        """The log in Kaggle's form: a JSON array of `{stream_name, time, data}`."""
        with self._changed:
            return "[" + "\n,".join(json.dumps(event, ensure_ascii=False) for event in self.events) + "\n]"

    @property
    def text(self) -> str:
        """What the script wrote, both streams."""
        with self._changed:
            return "".join(event["data"] for event in self.events)

    def outputs(self) -> list[str]:
        """The names of the kept files, in order; none for a cancelled session, whose output may be lost."""
        if self.status == "CANCEL_ACKNOWLEDGED":
            return []
        found = (path for path in self.working.rglob("*") if path.is_file())
        return sorted({path.relative_to(self.working).as_posix() for path in found} | self.extra_files.keys())

    def output(self, name: str) -> tuple[bytes, float]:
        """A kept file and when it was written (seconds since 1970)."""
        if name in self.extra_files:
            return self.extra_files[name], 0.0
        path = self.working / name
        return path.read_bytes(), path.stat().st_mtime

    def attach(self, source: Path, where: str) -> None:
        """Link a dataset's files into `input/<where>` without a copy."""
        target = self.folder / "kaggle" / "input" / where
        shutil.copytree(source, target, copy_function=_link, dirs_exist_ok=True)

    def start(self) -> None:
        """Run the script; returns when its process exists."""
        command = [self.python, str(self.folder / "kaggle" / "src" / "script.py")]
        started = time.monotonic()
        with self._changed:
            self._process = subprocess.Popen(
                command,
                cwd=self.folder / "kaggle" / self.starts_in,
                env=dict(self.environment),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                start_new_session=True,
            )
            self.status = "RUNNING"
            self._changed.notify_all()
        threading.Thread(target=self._follow, args=(self._process, started), daemon=True).start()

    def _follow(self, process: subprocess.Popen[bytes], started: float) -> None:
        assert process.stdout is not None
        assert process.stderr is not None
        limit = self.request.get("sessionTimeoutSeconds")
        timer = threading.Timer(limit or 12 * 3600, self._time_out)
        timer.daemon = True
        timer.start()
        pipes = (("stdout", process.stdout), ("stderr", process.stderr))
        readers = [threading.Thread(target=self._read, args=(*pipe, started), daemon=True) for pipe in pipes]
        for reader in readers:
            reader.start()
        code = process.wait()
        timer.cancel()
        self.kill(signal.SIGKILL)  # processes that the script left running end with the container
        for reader in readers:
            reader.join()
        with self._changed:
            self.exit_code = code
            if code and self.failure_message is None:
                self.failure_message = f"Exited with code {code}" if code > 0 else f"Killed by signal {-code}"
            if self.status == "CANCEL_REQUESTED":
                self.status, self.failure_message = "CANCEL_ACKNOWLEDGED", None
            else:
                self.status = "ERROR" if self.failure_message else "COMPLETE"
            self._changed.notify_all()

    def _read(self, name: str, pipe: IO[bytes], started: float) -> None:
        with pipe:
            for line in pipe:
                elapsed = round(time.monotonic() - started, 6)
                event = {"stream_name": name, "time": elapsed, "data": line.decode(errors="replace")}
                with self._changed:
                    self.events.append(event)
                    self._changed.notify_all()

    def _time_out(self) -> None:
        self.failure_message = "Your notebook exceeded the max allowed execution duration."
        self.kill(signal.SIGKILL)

    def kill(self, number: int = signal.SIGKILL) -> None:
        """Send a signal to the script and all its children."""
        if self._process is None:
            raise RuntimeError("the session has not started")
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, number)

    def cancel(self) -> None:
        """End it as `CancelKernelSession` does: without a signal that the script could act on."""
        with self._changed:
            if self._process is None:
                self.status = "CANCEL_ACKNOWLEDGED"
                self._changed.notify_all()
                return
            self.status = "CANCEL_REQUESTED"
        self.kill(signal.SIGKILL)

    def wait(self, timeout: float = 300) -> Session:
        """Wait for the end.

        Raises:
            TimeoutError: It still runs after `timeout` seconds.
        """
        with self._changed:
            if not self._changed.wait_for(lambda: self.done, timeout):
                raise TimeoutError(f"session {self.number} of {self.ref} is still {self.status}: {self.text}")
        return self

    def wait_for_text(self, text: str, timeout: float = 300) -> None:
        """Wait until the script has written `text`.

        Raises:
            TimeoutError: It has not, `timeout` seconds later or at its end.
        """
        with self._changed:
            self._changed.wait_for(lambda: self.done or text in self.text, timeout)
            if text not in self.text:
                raise TimeoutError(f"{text!r} is not in: {self.text}")

    def follow(self, closing: threading.Event) -> Iterator[dict[str, Any]]:
        """Events from the first one, as they arrive, until the end."""
        seen = 0
        while not closing.is_set():
            with self._changed:
                fresh, ended = self.events[seen:], self.done
                if not fresh and not ended:
                    self._changed.wait(timeout=0.2)
            yield from fresh
            seen += len(fresh)
            if ended:
                return


def _link(source: str, target: str) -> None:
    try:
        os.link(source, target)
    except OSError:
        shutil.copy2(source, target)
