"""Hugging Face Jobs: the same script on a paid machine, fetched from the run's branch by a command of a few lines."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated, Any, ClassVar, TypeVar

import typer
from pydantic import AliasChoices, Field

from chexvision.errors import ChexError, UsageError
from chexvision.hub.account import NEW_TOKEN_PAGE, is_oauth
from chexvision.hub.hub_errors import call_hub, hub_error
from chexvision.hub.reference import RepoRef, parse_reference
from chexvision.provenance import now
from chexvision.retry import is_transient, reason, status_of
from chexvision.runs.run_progress import RunProgress
from chexvision_dispatch.run_records import RunRecord, Session
from chexvision_dispatch.script import SCRIPT_NAME
from chexvision_dispatch.targets.session_log import session_log
from chexvision_dispatch.targets.target import GpuHours, Phase, Refused, SessionState, Target, TimeLimit

# Torch with CUDA; what else the bundle needs is installed by the script. Since 2.10 these images have torch in the
# system's own Python, which pip does not touch by default (PEP 668).
IMAGE = "pytorch/pytorch:2.10.0-cuda12.8-cudnn9-runtime"
PIP_MAY_INSTALL = {"PIP_BREAK_SYSTEM_PACKAGES": "1"}
_PHASES: dict[str, Phase] = {
    "SCHEDULING": "queued",
    "RUNNING": "running",
    "COMPLETED": "complete",
    "ERROR": "error",
    "CANCELED": "cancelled",
    "DELETED": "cancelled",
}
_HUB = "https://huggingface.co"
T = TypeVar("T")

# The image need not know the Hub's client. The token goes to the Hub alone, not along with a redirect.
FETCH = """
import hashlib, os, pathlib, sys, urllib.request
url, sha256 = sys.argv[1:]
request = urllib.request.Request(url)
request.add_unredirected_header("Authorization", "Bearer " + os.environ["HF_TOKEN"])
script = urllib.request.urlopen(request, timeout=60).read()
if hashlib.sha256(script).hexdigest() != sha256:
    sys.exit("error: the script was altered in transit; dispatch it again")
root = pathlib.Path(os.environ.get("CHEXVISION_ROOT", "/tmp/chexvision"))
for name in ("working", "input", "tmp"):
    (root / name).mkdir(parents=True, exist_ok=True)
(root / "script.py").write_bytes(script)
os.chdir(root / "working")
os.execv(sys.executable, [sys.executable, "-u", str(root / "script.py")])
"""


class HfJobsOptions(TimeLimit):
    """Options of a job."""

    longest = 24 * 7
    instead: ClassVar = {
        "max_hours": "it follows from --timeout-hours",
        "token_dataset": "the token of HF_TOKEN or of `hf auth login` is used",
    }
    for_gpu: ClassVar = ("flavor",)

    flavor: Annotated[str, typer.Option(help="Hardware of the job.")] = "t4-small"
    docker_image: Annotated[
        str | None,
        typer.Option(help="Any image with torch and CUDA."),
        Field(validation_alias=AliasChoices("docker_image", "image")),  # records of earlier versions have `image`
    ] = None


class HfJobs(Target):
    """Runs scripts as jobs of the Hub."""

    name = "hf-jobs"
    Options = HfJobsOptions
    options: HfJobsOptions

    def __init__(self, options: HfJobsOptions, *, dry_run: bool = False) -> None:
        super().__init__(options, dry_run=dry_run)
        self.max_hours = options.max_hours

    def check(self, needs: GpuHours | None) -> list[str]:
        """Check that the flavor exists and that there is a token: without one a job can neither read nor publish."""
        token, flavor = _token(), self.options.flavor
        offered = {one.name: one for one in _asked(lambda api: api.list_jobs_hardware(), "listing its hardware")}
        if flavor not in offered:
            raise UsageError(f"--flavor {flavor}: the Hub has no such hardware; it has {', '.join(offered)}")
        chosen = offered[flavor]
        price = f"${chosen.unit_cost_usd:.4g} per {chosen.unit_label}"
        notes = [f"a job on {flavor} ({chosen.pretty_name}) costs {price}"]
        if is_oauth(token):
            notes.append(
                "this machine's Hub token comes from a browser login (OAuth): the job gets a copy, which is not "
                "refreshed there, has all your rights and ends within 30 days; safer is a fine-grained token in "
                f"HF_TOKEN: {NEW_TOKEN_PAGE}"
            )
        return notes

    def prepare(self, record: RunRecord, folder: Path) -> list[str]:
        """Nothing but the script is needed, and a repository."""
        _repository(record)
        return []

    def start(self, record: RunRecord, folder: Path) -> Session:
        """Leave the script on the run's branch and start a job that fetches it from there."""
        from huggingface_hub import HfApi, constants

        from chexvision.runs.branch import RunBranch

        token, repo_id = _token(), _repository(record)
        script = (folder / SCRIPT_NAME).read_bytes()
        branch = RunBranch(repo_id, record.run_id, token, private=record.private)
        try:
            sha = branch.send({SCRIPT_NAME: script}, f"Script of {record.run_id}")
        except ChexError as error:
            raise Refused(str(error)) from error
        url = f"{constants.ENDPOINT}/{repo_id}/resolve/{sha}/{SCRIPT_NAME}"
        try:
            # Not retried: a job whose answer was lost would be paid for twice.
            job = HfApi(token=token).run_job(
                image=self.options.docker_image or IMAGE,
                command=["python", "-c", FETCH, url, hashlib.sha256(script).hexdigest()],
                env=PIP_MAY_INSTALL | ({"HF_ENDPOINT": constants.ENDPOINT} if constants.ENDPOINT != _HUB else {}),
                secrets={"HF_TOKEN": token},
                flavor=self.options.flavor,
                timeout=f"{self.options.timeout_s}s",
                labels={"chexvision-run": record.run_id, "session": str(len(record.sessions) + 1)},
            )
        except Exception as error:  # each generation of the client lets another HTTP library's errors out
            if is_transient(error) and status_of(error) is None:
                raise ChexError(
                    f"the Hub's answer about the job was lost ({reason(error)}); check whether it runs on "
                    "https://huggingface.co/settings/jobs before you dispatch again"
                ) from error
            failure = str(hub_error(error, "starting the job")).replace(token, "***")
            raise Refused(f"the Hub did not accept the job: {failure}") from error
        return Session(now(), job.id, job.url)

    def state(self, session: Session) -> SessionState:
        """The Hub's stage of the job."""
        job = _asked(lambda api: api.inspect_job(job_id=session.handle), f"asking for job {session.handle}")
        stage = str(getattr(job.status.stage, "value", job.status.stage))
        return SessionState(_PHASES.get(stage, "running"), job.status.message or "")

    def log(self, session: Session, *, follow: bool) -> Iterator[str]:
        """The job's log, line by line."""

        def stream(ended: bool) -> Iterator[str]:
            from huggingface_hub import HfApi

            try:
                for line in HfApi().fetch_job_logs(job_id=session.handle, follow=follow):
                    yield line if line.endswith("\n") else f"{line}\n"
            except Exception as error:
                # What the client itself did not get over; each of its generations raises another library's errors.
                raise ChexError(f"the Hub does not send the log of job {session.handle}: {reason(error)}") from error

        return session_log(stream, lambda: self.state(session), follow=follow)

    def cancel(self, session: Session) -> bool:
        """Cancel the job. It receives SIGTERM and saves its state if it is given the time."""
        _asked(lambda api: api.cancel_job(job_id=session.handle), f"cancelling job {session.handle}")
        return True

    def kill(self, session: Session, progress: RunProgress | None) -> None:
        """Cancel the job once more: the Hub ends what does not end by itself."""
        self.cancel(session)


def _repository(record: RunRecord) -> str:
    to = parse_reference(record.to) if record.to is not None else None
    if not isinstance(to, RepoRef):
        raise UsageError("a job's disk is gone with it: name the repository to publish to, --to USER/REPO")
    return to.repo_id


def _token() -> str:
    from huggingface_hub import get_token

    token = get_token()
    if token is None:
        raise ChexError("no Hub token on this machine, and a job needs one; log in with `hf auth login`")
    return token


def _asked(call: Callable[[Any], T], what: str) -> T:
    from huggingface_hub import HfApi

    return call_hub(lambda: call(HfApi()), what, attempts=4)
