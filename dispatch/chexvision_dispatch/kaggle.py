"""Kaggle: a script kernel on two free T4s, through the `kaggle` package's Python API."""

from __future__ import annotations

import io
import json
import os
import re
import sys
import time
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any

from chexvision.errors import ChexError, UsageError
from chexvision.layout import shared_dir
from chexvision.provenance import now
from chexvision_dispatch.records import RunRecord, Session
from chexvision_dispatch.target import Refused

METADATA_NAME = "kernel-metadata.json"
MAX_HOURS = 12  # a session is cut after these, whatever it asked for
UNKNOWN_USER = "USERNAME"
# A push whose answer was lost shows up within seconds, or never. Seconds before each look.
LOOKS = (1.0, 3.0, 6.0)

_DATASET = re.compile(r"^[\w-]+/[\w-]+$")
_RETIRED = {"NvidiaTeslaP100": "Kaggle has retired it and silently gives something else; take NvidiaTeslaT4"}
_HOW_TO_LOG_IN = (
    "make a token on https://www.kaggle.com/settings (API, Generate New Token), "
    "then type: export KAGGLE_API_TOKEN=... (or put it into ~/.kaggle/access_token)"
)


class Kaggle:
    """Runs scripts as private kernels.

    Args:
        accelerator: Kaggle's name for the hardware; ``NvidiaTeslaT4`` is two T4s.
        timeout_hours: after which a session is cut, in (0, 12].
        token_dataset: ``OWNER/SLUG`` of a private dataset that holds ``hf_token.txt``.
        dry_run: ask Kaggle nothing; the user's name is then taken from where it is written down, if it is.

    Raises:
        UsageError: an argument Kaggle would not take.
    """

    name = "kaggle"
    reads_folders = False

    def __init__(self, accelerator: str, timeout_hours: float, token_dataset: str | None, *, dry_run: bool) -> None:
        if not 0 < timeout_hours <= MAX_HOURS:
            raise UsageError(f"--timeout-hours {timeout_hours:g} must be above 0 and at most {MAX_HOURS}")
        if accelerator in _RETIRED:
            raise UsageError(f"--accelerator {accelerator}: {_RETIRED[accelerator]}")
        if token_dataset is not None and not _DATASET.match(token_dataset):
            raise UsageError(f"--token-dataset {token_dataset} must read OWNER/SLUG")
        self._accelerator = accelerator
        self._timeout_s = round(timeout_hours * 3600)
        self._token_dataset = token_dataset
        self._api: Any = None
        self._user = _written_down_user() if dry_run else None

    def check(self) -> None:
        """Log in, and see that the token's dataset is there and ready: Kaggle drops missing ones without a word."""
        self._api, self._user = _log_in()
        if self._token_dataset is None:
            return
        from requests import RequestException

        try:
            status = self._api.dataset_status(self._token_dataset)
        except RequestException as error:
            if _status(error) in (403, 404):
                raise ChexError(
                    f"Kaggle has no dataset {self._token_dataset}, or keeps it from {self._user}; "
                    "make a private one that holds hf_token.txt, or leave --token-dataset out"
                ) from None
            raise _explained(error, f"while looking for the dataset {self._token_dataset}") from None
        if status != "ready":
            raise ChexError(
                f"the dataset {self._token_dataset} is not ready ({status}); a new one takes a minute, then try again"
            )

    def prepare(self, record: RunRecord, folder: Path) -> list[str]:
        """Write ``kernel-metadata.json`` from the kernel's own template."""
        template = (shared_dir("kernels") / "train" / METADATA_NAME).read_text(encoding="utf-8")
        title = f"chexvision-{record.run_id}"
        metadata = json.loads(template) | {
            "id": f"{self._user or UNKNOWN_USER}/{title}",
            "title": title,
            "machine_shape": self._accelerator,
            "dataset_sources": [self._token_dataset] if self._token_dataset else [],
        }
        (folder / METADATA_NAME).write_text(json.dumps(metadata, indent=2) + "\n", encoding="utf-8")
        notes = []
        if self._user is None:
            notes.append(
                f"your Kaggle user name is not written down here; {METADATA_NAME} has {UNKNOWN_USER} in its place"
            )
        if self._token_dataset is None:
            where = f"is not published to {record.to} by the session" if record.to else "is not published"
            notes.append(
                f"no --token-dataset: the session has no Hub token, so the artifact stays in its output and {where}"
            )
        return notes

    def start(self, record: RunRecord, folder: Path) -> Session:
        """Push the kernel once; an answer that is lost is looked for, never pushed again."""
        from requests import RequestException

        kernel = json.loads((folder / METADATA_NAME).read_text(encoding="utf-8"))["id"]
        try:
            with redirect_stdout(sys.stderr):  # the client prints its warnings to where our results go
                answer = self._api.kernels_push(str(folder), timeout=str(self._timeout_s))
        except RequestException as error:
            status = _status(error)
            if status is not None and status < 500:
                raise _explained(error, "and refused the push", Refused) from None
            self._look_for(kernel, error)
            return Session(now(), kernel, _page(kernel))
        except ValueError as error:
            raise Refused(f"the kaggle package refused {folder}: {error}") from None
        return _session(kernel, answer)

    def _look_for(self, kernel: str, error: Exception) -> None:
        print("Kaggle's answer to the push was lost; looking whether it arrived", file=sys.stderr)
        from requests import RequestException

        for seconds in LOOKS:
            time.sleep(seconds)
            try:
                self._api.kernels_status(kernel)
            except ValueError:
                continue  # what the client makes of 401 and 403: there is no such kernel
            except RequestException as unanswered:
                if _status(unanswered) != 404:
                    error = unanswered
                continue
            return
        raise ChexError(
            f"Kaggle did not answer the push ({_kind(error)}) and shows no kernel {kernel}; "
            f"if {_page(kernel)} stays empty in a minute, dispatch again"
        )

    def follow(self, session: Session) -> Session:
        """Kaggle goes on by itself."""
        print(f"kernel {session.page}")
        return session


def _session(kernel: str, answer: Any) -> Session:
    if answer.error:
        hint = ""
        if "session count" in answer.error:
            hint = "; wait for one to end, or end one on https://www.kaggle.com/code"
        raise Refused(f"Kaggle refused the push: {answer.error.rstrip('. ')}{hint}")
    page = answer.url or _page(kernel)
    if answer.invalid_dataset_sources:
        missing = ", ".join(answer.invalid_dataset_sources)
        raise ChexError(
            f"Kaggle runs the kernel without {missing}, which it does not find, so it will publish nothing; "
            f"stop it on {page}, then dispatch again"
        )
    return Session(now(), kernel, page)


def _log_in() -> tuple[Any, str]:
    """The client and the name of its user; its own way of saying no is a page of help and `exit`."""
    from requests import RequestException

    said = io.StringIO()
    try:
        with redirect_stdout(said), redirect_stderr(said):
            from kaggle.api.kaggle_api_extended import KaggleApi

            api = KaggleApi()
            api.authenticate()
    except SystemExit:
        used = _token_place()
        if used is not None:
            raise ChexError(
                f"Kaggle does not accept the token in {used} (wrong or expired); {_HOW_TO_LOG_IN}"
            ) from None
        raise ChexError(f"no Kaggle credentials; {_HOW_TO_LOG_IN}") from None
    except RequestException as error:
        raise _explained(error, "while logging in") from None
    user = api.get_config_value("username")
    if not user:
        raise ChexError(f"Kaggle's credentials name no user; {_HOW_TO_LOG_IN}")
    return api, str(user)


def _token_place() -> str | None:
    """Where the access token that the client sends stands, if there is one."""
    from kagglesdk import get_access_token_from_env

    token, place = get_access_token_from_env()
    if not token:
        return None
    return "~/.kaggle/access_token" if place == "access_token" else str(place)


def _written_down_user() -> str | None:
    """The user's name as far as it can be known without asking Kaggle."""
    if os.environ.get("KAGGLE_USERNAME"):
        return os.environ["KAGGLE_USERNAME"]
    folder = Path(os.environ.get("KAGGLE_CONFIG_DIR") or "~/.kaggle").expanduser()
    for file in (folder / "kaggle.json", folder / "credentials.json"):
        try:
            user = json.loads(file.read_text(encoding="utf-8")).get("username")
        except (OSError, ValueError, AttributeError):
            continue
        if isinstance(user, str) and user:
            return user
    return None


def _explained(error: Exception, what: str, kind: type[ChexError] = ChexError) -> ChexError:
    status = _status(error)
    if status in (401, 403):
        # The client sends an access token even where it has just fallen back on a right legacy key.
        used = _token_place() or "kaggle.json"
        return kind(f"Kaggle does not accept the credentials in {used} (HTTP {status}) {what}; {_HOW_TO_LOG_IN}")
    if status is None:
        return kind(f"Kaggle did not answer {what} ({_kind(error)}); look at your connection and try again")
    hints = {409: "a data source is not ready yet; wait a minute", 429: "too many requests; wait some minutes"}
    hint = hints.get(status, "try again")
    return kind(f"Kaggle answered {_kind(error)} {what}; {hint}")


def _status(error: Exception) -> int | None:
    status = getattr(getattr(error, "response", None), "status_code", None)
    return status if isinstance(status, int) else None


def _kind(error: Exception) -> str:
    status = _status(error)
    return f"HTTP {status}" if status is not None else type(error).__name__


def _page(kernel: str) -> str:
    return f"https://www.kaggle.com/code/{kernel}"
