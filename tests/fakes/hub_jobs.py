"""The fake Hub's jobs. They are recorded, not run: a test runs the command itself and sets its outcome."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from .hub_access import HubAccess
from .messages import HttpError, Request, Response, json_response
from .wire import route

_JOB = r"/api/jobs/(?P<namespace>[^/]+)/(?P<job_id>[0-9a-f]{24})"


_HARDWARE = (
    ("cpu-basic", "CPU Basic", 167),
    ("t4-small", "Nvidia T4 - small", 6667),
    ("a10g-small", "Nvidia A10G - small", 16667),
)


def _hardware(name: str, pretty: str, micro_usd: int) -> dict[str, Any]:
    cost = {"unitCostMicroUSD": micro_usd, "unitCostUSD": micro_usd / 1e6, "unitLabel": "minute"}
    return {"name": name, "prettyName": pretty, "cpu": "4 vCPU", "ram": "15 GB", "accelerator": None, **cost}


@dataclass(slots=True)
class Job:
    """A job: `spec` is the request as received, `stage` and `lines` are set by tests."""

    id: str
    spec: dict[str, Any]
    stage: str = "SCHEDULING"
    message: str | None = None
    lines: list[str] = field(default_factory=list)


class HubJobs(HubAccess):
    """Routes below `/api/jobs`."""

    jobs: list[Job]

    @route("POST", r"/api/jobs/(?P<namespace>[^/]+)")
    def run_job(self, request: Request, namespace: str) -> Response:
        self._may_run(request, namespace)
        job = Job(f"{len(self.jobs) + 1:024x}", request.json())
        self.jobs.append(job)
        return json_response(self._job_json(job))

    @route("GET", "/api/jobs/hardware")
    def job_hardware(self, request: Request) -> Response:
        return json_response([_hardware(*one) for one in _HARDWARE])

    @route("GET", _JOB)
    def inspect_job(self, request: Request, namespace: str, job_id: str) -> Response:
        self._may_run(request, namespace)
        return json_response(self._job_json(self._job(job_id)))

    @route("POST", rf"{_JOB}/cancel")
    def cancel_job(self, request: Request, namespace: str, job_id: str) -> Response:
        self._may_run(request, namespace)
        self._job(job_id).stage = "CANCELED"
        return json_response({})

    @route("GET", rf"{_JOB}/logs")
    def job_logs(self, request: Request, namespace: str, job_id: str) -> Response:
        self._may_run(request, namespace)
        job = self._job(job_id)
        return Response(200, headers={"Content-Type": "text/event-stream"}, stream=self._log(job))

    def _log(self, job: Job) -> Iterator[bytes]:
        for line in ["===== Job started at 2026-01-01 =====", *job.lines]:
            event = {"timestamp": "2026-01-01T00:00:00.000Z", "data": line}
            yield f"data: {json.dumps(event)}\n\n".encode()

    def _may_run(self, request: Request, namespace: str) -> None:
        token = self.token_of(request)
        if token is None:
            raise HttpError(401, "Invalid username or password.")
        if namespace != self.user or token.role == "read":
            raise HttpError(403, "You do not have the right to run jobs in this namespace")

    def _job(self, job_id: str) -> Job:
        job = next((one for one in self.jobs if one.id == job_id), None)
        if job is None:
            raise HttpError(404, "Job not found")
        return job

    def _job_json(self, job: Job) -> dict[str, Any]:
        spec = {key: job.spec.get(key) for key in ("dockerImage", "command", "arguments", "environment", "flavor")}
        return {
            **spec,
            "id": job.id,
            "createdAt": "2026-01-01T00:00:00.000Z",
            "labels": job.spec.get("labels"),
            "secrets": dict.fromkeys(job.spec.get("secrets", {}), "***"),
            "status": {"stage": job.stage, "message": job.message},
            "owner": {"id": "1", "name": self.user, "type": "user"},
        }
