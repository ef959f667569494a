"""The fake Kaggle's kernels: pushes that run, their status, logs and outputs."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from datetime import timedelta
from email.utils import formatdate
from pathlib import Path
from typing import Any
from urllib.parse import quote

from .kaggle_datasets import KaggleDatasets
from .kaggle_session import NVIDIA_SMI, SECRETS_MODULE, Session
from .messages import HttpError, Request, Response, json_response
from .wire import route

_SERVICE = r"/v1/kernels\.KernelsApiService"
SOURCE_LIMIT = 1024 * 1024
SESSION_TOKEN = "session-jwt"
FIRST_SESSION_ID = 290_000_000


def _slugify(title: str) -> str:
    return re.sub(r"[\W_]+", "-", title.lower()).strip("-")


class KaggleKernels(KaggleDatasets):
    """Routes of the kernel service, of session outputs and of secrets."""

    root: Path
    url: str
    python: str
    session_env: dict[str, str]
    session_secrets: dict[str, str]
    nested_inputs: bool
    organizations: frozenset[str]
    starts_in: str
    phone_verified: bool
    sessions: list[Session]
    held = False
    max_gpu_sessions = 2
    taken_titles: frozenset[str] = frozenset()
    gpu_time_used = timedelta(hours=0)
    gpu_time_reserved = timedelta(hours=0)
    gpu_ever_run = True
    gpu_time_allowed = timedelta(hours=30)

    def hold(self) -> None:
        """Keep sessions that are pushed from now on in the queue."""
        self.held = True

    def release(self) -> None:
        """Start the queued sessions, and later ones when they are pushed."""
        self.held = False
        for session in self.sessions:
            if session.status == "QUEUED":
                session.start()

    @route("POST", f"{_SERVICE}/SaveKernel")
    def save_kernel(self, request: Request) -> Response:
        self.require_user(request)
        body: dict[str, Any] = request.json()
        source = body.get("text", "")
        if len(source.encode()) > SOURCE_LIMIT:
            # A refusal's reason is the message of the JSON body, which kagglesdk's `_prepare_response` raises.
            raise HttpError(400, "The kernel source must be less than 1 megabytes in size.")
        owner, _, slug = body.get("slug", "").partition("/")
        if owner != self.user:
            raise HttpError(403, "Permission 'kernels.update' was denied")
        if _slugify(body.get("newTitle", "")) != slug:
            return json_response({"error": "Notebook not found"})
        wanted = body.get("datasetDataSources", [])
        datasets = [ref for ref in wanted if ref in self.datasets.known]
        if any(self.datasets.known[ref].pending for ref in datasets):
            raise HttpError(409, "One of the datasets is still being processed")
        gpu = body.get("machineShape", "").startswith("Nvidia") or body.get("enableGpu", False)
        if body["newTitle"] in self.taken_titles:
            taken = f'The requested title "{body["newTitle"]}" is already in use by a notebook'
            return json_response({"error": f"{taken}. Please choose another title."})
        with self.lock:
            if gpu and self.gpu_time_used >= self.gpu_time_allowed:
                return json_response({"error": "Maximum weekly GPU quota of 30.00 hours reached."})
            if gpu and sum(s.gpu and not s.done for s in self.sessions) >= self.max_gpu_sessions:
                limit = f"Maximum batch GPU session count of {self.max_gpu_sessions} reached."
                return json_response({"error": limit})
            session = self._new_session(f"{owner}/{slug}", body, datasets, gpu)
            self.sessions.append(session)
        if not self.held:
            session.start()
        answer = {"ref": f"/code/{session.ref}", "url": f"https://www.kaggle.com/code/{session.ref}"}
        missing = [ref for ref in wanted if ref not in datasets]
        no_kernels = [ref for ref in body.get("kernelDataSources", []) if self._completed(ref) is None]
        version = sum(s.ref == session.ref for s in self.sessions)
        dropped = {"invalidDatasetSources": missing, "invalidKernelSources": no_kernels}
        return json_response({**answer, "versionNumber": version, "kernelId": 1, **dropped})

    def _completed(self, ref: str) -> Session | None:
        """The last session of a kernel that completed: its output is what another kernel can attach.

        A kernel that ended in ERROR, and one of another account, are answered as `invalidKernelSources`, which the
        client prints as "not valid kernel sources"; the new session starts without them (public run logs).
        """
        owned = (one for one in reversed(self.sessions) if one.ref == ref and ref.startswith(f"{self.user}/"))
        return next((one for one in owned if one.status == "COMPLETE"), None)

    def _new_session(self, ref: str, body: dict[str, Any], datasets: list[str], gpu: bool) -> Session:
        number = len(self.sessions) + 1
        folder = self.root / "sessions" / str(number)
        for name in ("kaggle/working", "kaggle/input", "kaggle/tmp", "kaggle/src", "home", "site"):
            (folder / name).mkdir(parents=True)
        with_gpu = gpu and self.phone_verified
        with_internet = body.get("enableInternet", False) and self.phone_verified
        if with_gpu:
            (folder / "bin").mkdir()
            (folder / "bin/nvidia-smi").write_text(NVIDIA_SMI, encoding="utf-8")
            (folder / "bin/nvidia-smi").chmod(0o755)
        (folder / "kaggle/src/script.py").write_text(body["text"], encoding="utf-8")
        (folder / "site/kaggle_secrets.py").write_text(SECRETS_MODULE, encoding="utf-8")
        environment = {
            "PATH": f"{folder / 'bin'}:/usr/local/bin:/usr/bin:/bin",
            "HOME": str(folder / "home"),
            "LANG": "C.UTF-8",
            "PYTHONUNBUFFERED": "1",
            "PYTHONPATH": str(folder / "site"),
            "KAGGLE_KERNEL_RUN_TYPE": "Batch",
            "KAGGLE_URL_BASE": self.url,
            # The only place where a session finds the id that CancelKernelSession takes (public notebooks).
            "KAGGLE_CONTAINER_NAME": f"kaggle_Tk9uZQ-{FIRST_SESSION_ID + number}-webtier",
            "KAGGLE_USER_SECRETS_TOKEN": SESSION_TOKEN,
            **self.session_env,
            **({} if with_internet else {"HF_ENDPOINT": "http://127.0.0.1:9"}),  # nothing listens there
        }
        session = Session(ref, number, folder, body, datasets, with_gpu, self.python, environment, self.starts_in)
        for dataset in datasets:
            owner, slug = dataset.split("/")
            kind = "datasets/organizations" if owner in self.organizations else "datasets"
            session.attach(self.datasets.known[dataset].folder, f"{kind}/{dataset}" if self.nested_inputs else slug)
        for kernel in body.get("kernelDataSources", []):
            source = self._completed(kernel)
            if source is not None:
                session.attach(source.working, f"notebooks/{kernel}" if self.nested_inputs else kernel.split("/")[1])
        return session

    def _latest(self, request: Request, owner: str, slug: str) -> Session:
        self.require_user(request)
        for session in reversed(self.sessions):
            if session.ref == f"{owner}/{slug}":
                return session
        raise HttpError(403, "Permission 'kernels.get' was denied")

    @route("POST", f"{_SERVICE}/GetKernelSessionStatus")
    def get_kernel_session_status(self, request: Request) -> Response:
        body = request.json()
        session = self._latest(request, body.get("userName", ""), body.get("kernelSlug", ""))
        answer = {"status": session.status}
        if session.failure_message is not None and session.done:
            answer["failureMessage"] = session.failure_message
        return json_response(answer)

    @route("POST", f"{_SERVICE}/CancelKernelSession")
    def cancel_kernel_session(self, request: Request) -> Response:
        """End a session by its own id (kagglesdk: `ApiCancelKernelSessionRequest`), not by its kernel."""
        self.require_user(request)
        number = int(request.json().get("kernelSessionId", 0)) - FIRST_SESSION_ID
        found = next((one for one in self.sessions if one.number == number), None)
        if found is None or not found.ref.startswith(f"{self.user}/"):
            raise HttpError(403, "Permission 'kernelSessions.cancel' was denied")
        if found.done:
            return json_response({"errorMessage": "The session has already ended."})
        found.cancel()
        return json_response({})

    @route("POST", f"{_SERVICE}/ListKernelSessionOutput")
    def list_kernel_session_output(self, request: Request) -> Response:
        body = request.json()
        session = self._latest(request, body.get("userName", ""), body.get("kernelSlug", ""))
        if not session.done:
            return json_response({"files": []})
        start = int(body.get("pageToken") or 0)
        stop = start + (body.get("pageSize") or 20)
        names = session.outputs()
        base = f"{self.storage_url}/outputs/{session.number}"
        files = [{"fileName": name, "url": f"{base}?name={quote(name, safe='')}&sig=x"} for name in names[start:stop]]
        answer: dict[str, Any] = {"files": files, "log": session.log}
        if stop < len(names):
            answer["nextPageToken"] = str(stop)
        return json_response(answer)

    @route("GET", r"/outputs/(?P<number>\d+)")
    def output(self, request: Request, number: str) -> Response:
        session, name = self.sessions[int(number) - 1], request.query["name"][0]
        if "sig" not in request.query or name not in session.outputs():
            return Response(403, b"<Error><Code>AccessDenied</Code></Error>")
        content, written = session.output(name)
        modified = formatdate(written, usegmt=True)
        return Response(200, content, {"Content-Type": "application/octet-stream", "Last-Modified": modified})

    @route("GET", r"/v1/kernels/logs/stream/(?P<owner>[^/]+)/(?P<slug>[^/]+)")
    def stream_logs(self, request: Request, owner: str, slug: str) -> Response:
        session = self._latest(request, owner, slug)
        # No charset: the client decodes both as Latin-1, although the bytes are UTF-8.
        if session.done:
            return Response(200, session.log.encode(), {"Content-Type": "text/plain"})
        return Response(200, headers={"Content-Type": "text/event-stream"}, stream=self._events(session))

    def _events(self, session: Session) -> Iterator[bytes]:
        """Events as the client reads them: one line each, with or without its newline, some with `data: null`."""
        for number, event in enumerate(session.follow(self.closing)):
            if number % 3 == 0:
                yield b'data: {"stream_name": "stdout", "time": 0.0, "data": null}\n\n'
            if number % 2 == 0:
                event = {**event, "data": event["data"].removesuffix("\n")}
            yield f"data: {json.dumps(event, ensure_ascii=False)}\n\n".encode()
        yield b"data: END_OF_LOG\n\n"

    @route("POST", f"{_SERVICE}/GetAcceleratorQuotaStatistics")
    def get_quota(self, request: Request) -> Response:
        self.require_user(request)

        def quota(used: timedelta, reserved: timedelta, allowed: timedelta, ever_run: bool) -> dict[str, object]:
            spans = {"timeUsed": used, "timeReserved": reserved, "totalTimeAllowed": allowed}
            seconds = {name: f"{span.total_seconds():g}s" for name, span in spans.items()}
            return {**seconds, "minimumTimeAllowed": "108000s", "hasEverRun": ever_run}

        ever_run = self.gpu_ever_run and self.phone_verified
        gpu = quota(self.gpu_time_used, self.gpu_time_reserved, self.gpu_time_allowed, ever_run)
        if not ever_run:
            del (
                gpu["timeUsed"],
                gpu["timeReserved"],
            )  # proto3's JSON leaves out what was never set
        return json_response(
            {
                "quotaRefreshTime": "2030-01-05T00:00:00.000Z",
                "gpuQuota": gpu,
                "tpuQuota": quota(timedelta(), timedelta(), timedelta(hours=20), False),
            }
        )

    @route("POST", "/requests/GetUserSecretByLabelRequest")
    def get_user_secret(self, request: Request) -> Response:
        if request.headers.get("X-Kaggle-Authorization") != f"Bearer {SESSION_TOKEN}":
            raise HttpError(401, "Unauthenticated")
        label = request.json()["Label"]
        if label not in self.session_secrets:
            error = f"No user secrets exist for kernel id 1 and label {label}."
            return json_response({"errors": [error], "error": {"code": 5}, "wasSuccessful": False})
        secret = {"secret": self.session_secrets[label], "secretType": 0, "secretProvider": 0}
        return json_response({"result": secret, "wasSuccessful": True})
