"""Kaggle: a script kernel on two free T4s, through the `kaggle` package's Python API."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any, ClassVar, Self

import typer
from pydantic import model_validator

from chexvision.errors import ChexError
from chexvision.layout import shared_dir
from chexvision.provenance import now
from chexvision.retry import retried, status_of
from chexvision.runs.run_progress import RunProgress
from chexvision_dispatch.run_records import RunRecord, Session
from chexvision_dispatch.targets import kaggle_client as client
from chexvision_dispatch.targets import kaggle_output as output
from chexvision_dispatch.targets import kaggle_sessions as sessions
from chexvision_dispatch.targets.credentials import remembered_dataset
from chexvision_dispatch.targets.target import GpuHours, Phase, Quota, Refused, SessionState, Target, TimeLimit

METADATA_NAME = "kernel-metadata.json"
UNKNOWN_USER = "USERNAME"
_SENT_NAME = "sent.txt"  # the kernel that was pushed from a folder, whether or not an answer came

ACCELERATORS = ("NvidiaTeslaT4",)
_NOT_FOR_THIS = {
    "NvidiaTeslaP100": "Kaggle has retired it and silently assigns other hardware; take NvidiaTeslaT4",
    "Tpu1VmV38": "it is a TPU, and training needs a GPU; take NvidiaTeslaT4",
}
_DATASET = re.compile(r"^[\w-]+/[\w-]+$")
# The first is of today's images; public kernels name those of the other two.
_IMAGE = re.compile(
    r"gcr\.io/(kaggle-private-byod/python@sha256:[0-9a-f]{64}"
    r"|kaggle-(gpu-)?images/python(@sha256:[0-9a-f]{64}|:[\w.-]+))"
)
_PHASES: dict[str, Phase] = {
    "QUEUED": "queued",
    "NEW_SCRIPT": "queued",
    "RUNNING": "running",
    "CANCEL_REQUESTED": "running",
    "COMPLETE": "complete",
    "ERROR": "error",
    "CANCEL_ACKNOWLEDGED": "cancelled",
}


class _NoKernel(ChexError):
    """Kaggle has no such kernel, or keeps it from this account."""


class KaggleOptions(TimeLimit):
    """Options of a run on Kaggle."""

    longest = 12  # hours: a session is cut after these, whatever it asked for
    instead: ClassVar = {"max_hours": "it follows from --timeout-hours"}
    for_gpu: ClassVar = ("accelerator",)

    token_dataset: Annotated[
        str | None,
        typer.Option(metavar="OWNER/SLUG", help="Private dataset whose hf_token.txt is the session's Hub token."),
    ] = None
    accelerator: Annotated[str, typer.Option(help="Kaggle's name for the hardware; this one is two T4s.")] = (
        ACCELERATORS[0]
    )
    docker_image: Annotated[str | None, typer.Option(help="Pin the session's image, one of Kaggle's own.")] = None
    public: Annotated[bool, typer.Option("--public", help="Make the kernel public.")] = False

    @model_validator(mode="after")
    def _known(self) -> Self:
        if self.accelerator not in ACCELERATORS:
            why = _NOT_FOR_THIS.get(self.accelerator, f"Kaggle does not know it; known are {', '.join(ACCELERATORS)}")
            raise ValueError(f"--accelerator {self.accelerator}: {why}")
        if self.token_dataset is not None and not _DATASET.match(self.token_dataset):
            raise ValueError(f"--token-dataset {self.token_dataset} must read OWNER/SLUG")
        if self.docker_image is not None and not _IMAGE.fullmatch(self.docker_image):
            raise ValueError(
                f"--docker-image {self.docker_image} must be one of Kaggle's own, such as "
                "gcr.io/kaggle-private-byod/python@sha256:<64 hex digits>"
            )
        return self

    def for_run(self, run_id: str, *, dry_run: bool) -> Self:
        """With the token dataset that `chexvision credentials sync` made."""
        return self.model_copy(update={"token_dataset": self.token_dataset or remembered_dataset()})


class Kaggle(Target):
    """Runs scripts as private kernels. A dry run takes the user's name from where it is written down, if it is."""

    name = "kaggle"
    Options = KaggleOptions
    options: KaggleOptions
    may_withhold = True
    has_release = True
    has_quota = True
    finds_lost_start = True

    def __init__(self, options: KaggleOptions, *, dry_run: bool = False) -> None:
        super().__init__(options, dry_run=dry_run)
        self.max_hours = options.max_hours
        # A run that was dispatched before there was one is given it in its next session.
        self._token_dataset = options.token_dataset or (None if dry_run else remembered_dataset())
        self._client: tuple[Any, str] | None = None
        self._user = client.known_user() if dry_run else None

    @property
    def has_token(self) -> bool:
        """Kaggle's API attaches no secrets; a dataset is the only way."""
        return self._token_dataset is not None

    @property
    def _logged_in(self) -> tuple[Any, str]:
        if self._client is None:
            self._client = client.log_in()
            self._user = self._client[1]
        return self._client

    @property
    def _api(self) -> Any:
        return self._logged_in[0]

    def quota(self) -> Quota | None:
        """Kaggle's own count."""
        return client.gpu_quota(self._api)

    def check(self, needs: GpuHours | None) -> list[str]:
        """Log in, check the quota and the token's dataset: Kaggle drops missing datasets silently."""
        quota = self.quota()
        notes = []
        if quota is not None and needs is not None:
            notes.append(_budget(quota, needs, self.options.max_hours))
        if quota is not None and not quota.ever_run:
            notes.append(f"{self._user} {client.NEVER_RUN}")
        if self._token_dataset is not None:
            self._check_dataset(self._token_dataset)
        return notes

    def _check_dataset(self, dataset: str) -> None:
        status = client.dataset_status(self._api, dataset)
        if status is None:
            raise ChexError(
                f"Kaggle has no dataset {dataset}, or hides it from {self._user}; make it with "
                "`chexvision credentials sync`, or leave --token-dataset out"
            )
        if status != "ready":
            raise ChexError(
                f"the dataset {dataset} is not ready ({status}); a new one takes a minute, then try again"
            )

    def prepare(self, record: RunRecord, folder: Path) -> list[str]:
        """Write ``kernel-metadata.json`` from the kernel's own template."""
        template = json.loads((shared_dir("kernels") / record.kernel / METADATA_NAME).read_text(encoding="utf-8"))
        number = len(record.sessions) + 1
        # A kernel for each session: the output of the one before is attached to it. A title has 50 characters.
        title = f"chexvision-{record.run_id}" if number == 1 else f"session-{number}-{record.run_id}"
        token = [self._token_dataset] if self._token_dataset else []
        # The newest session whose output Kaggle attaches; what came after it is on the run's branch.
        attached = next((one for one in reversed(record.sessions) if self.passes_files_on(one)), None)
        metadata = template | {
            "id": f"{self._user or UNKNOWN_USER}/{title}",
            "title": title,
            "is_private": not self.options.public,
            "dataset_sources": [*template["dataset_sources"], *token],
            "kernel_sources": [attached.handle] if attached is not None else [],
        }
        if "machine_shape" in template:
            metadata["machine_shape"] = self.options.accelerator
        if self.options.docker_image:
            metadata["docker_image"] = self.options.docker_image
        (folder / METADATA_NAME).write_text(json.dumps(metadata, indent=2) + "\n", encoding="utf-8")
        notes = []
        if self._user is None:
            notes.append(
                f"your Kaggle user name is not configured here; {METADATA_NAME} contains {UNKNOWN_USER} instead"
            )
        if self._token_dataset is None:
            use = f"publish them to {record.to}" if record.to else "download them"
            notes.append(
                "no --token-dataset: the session has no Hub token (`chexvision credentials sync` gives it one), so "
                f"its results stay in its output; {use} with `chexvision runs collect`"
            )
        return notes

    def passes_files_on(self, session: Session) -> bool:
        """Kaggle attaches what completed, and to kernels of the same account alone; it drops all else silently."""
        if session.outcome in ("failed", "cancelled", "unpublished") or not self._is_own(session):
            return False
        try:
            return self.state(session).phase == "complete"
        except _NoKernel:
            return False

    def _is_own(self, session: Session) -> bool:
        """Whether the account that is logged in started it."""
        _, user = self._logged_in
        return session.handle.partition("/")[0].casefold() == user.casefold()

    def start(self, record: RunRecord, folder: Path) -> Session:
        """Push the kernel once; where the answer is lost, ask whether it arrived, and never push again."""
        kernel = json.loads((folder / METADATA_NAME).read_text(encoding="utf-8"))["id"]
        sent = folder / _SENT_NAME
        was_sent = sent.is_file() and sent.read_text(encoding="utf-8") == kernel
        if was_sent and sessions.is_shown(self._api, kernel):  # a push whose answer was lost did arrive
            return Session(now(), kernel, sessions.page_of(kernel))
        sent.write_text(kernel, encoding="utf-8")
        try:
            return sessions.push(self._api, kernel, folder, self.options.timeout_s)
        except Refused:
            sent.unlink()
            raise

    def state(self, session: Session) -> SessionState:
        """Kaggle's status of the kernel's last session."""
        from requests import RequestException

        try:
            answer = retried(
                lambda: self._api.kernels_status(session.handle), what=f"status of {session.handle}", attempts=3
            )
        except ValueError:
            # The client's error for both 401 and 403.
            raise self._no_kernel(session) from None
        except RequestException as error:
            if status_of(error) == 404:
                raise self._no_kernel(session) from None
            raise client.explained(error, f"while asking for {session.handle}") from error
        status = str(getattr(answer.status, "name", answer.status)).upper()
        return SessionState(_PHASES.get(status, "running"), answer.failure_message or "")

    def _no_kernel(self, session: Session) -> _NoKernel:
        return _NoKernel(f"Kaggle shows {self._user} no kernel {session.handle}: it was deleted or is another user's")

    def log(self, session: Session, *, follow: bool) -> Iterator[str]:
        """Kaggle's stream while the session runs, what it kept of it afterwards."""
        return output.log(self._api, session.handle, lambda: self.state(session), follow=follow)

    def cancel(self, session: Session) -> bool:
        """Kaggle forwards nothing to a session."""
        return False

    def kill(self, session: Session, progress: RunProgress | None) -> None:
        """Cancel the session, from the account that started it."""
        if not self._is_own(session):
            raise ChexError(
                f"{session.handle} was started by another account than {self._user}, and only that one can end it: "
                f"log in with its token, or end it on {session.page}"
            )
        sessions.cancel(self._api, session, progress.kaggle_session_id if progress is not None else None)

    def collect(self, session: Session, folder: Path, names: Sequence[str]) -> Path | None:
        """Download the session's output."""
        output.download(self._api, session.handle, folder, names)
        return folder


def _budget(quota: Quota, needs: GpuHours, session_hours: float) -> str:
    """What is left of the quota, and whether the run fits into it and a session; raises Refused where it must."""
    text = f"Kaggle quota: {quota}"
    if needs.hours is not None:
        text += f"; this recipe takes about {needs.hours:.1f} ({needs.basis})"
        count = math.ceil(needs.hours / session_hours)
        if count > 1:
            text += f", {count} sessions of {session_hours:.1f} hours: add --auto-resume"
    if quota.left > 0 and (needs.hours is None or needs.hours <= quota.left):
        return text
    # A run that is resumed has no estimate, and no way to choose.
    remedy = "wait" if needs.hours is None else "wait, or choose fewer epochs or images"
    if not needs.force and (needs.measured or quota.left == 0):
        raise Refused(f"{text}; {remedy}{'' if needs.hours is None else ', or add --force'}")
    return f"{text}, which may not fit: {remedy}; an interrupted session can be resumed when quota is available"
