"""The `kaggle` package's client: logging in, and what its errors mean."""

from __future__ import annotations

import io
import json
import os
from contextlib import redirect_stderr, redirect_stdout
from datetime import timedelta
from pathlib import Path
from typing import Any

from chexvision.errors import ChexError
from chexvision.retry import status_of
from chexvision_dispatch.targets.target import Quota

HOW_TO_LOG_IN = (
    "make a token on https://www.kaggle.com/settings (API, Generate New Token), "
    "then type: export KAGGLE_API_TOKEN=... (or put it into ~/.kaggle/access_token)"
)
NEVER_RUN = (
    "has never run a session with a GPU: until a phone number is verified at https://www.kaggle.com/settings, Kaggle "
    "starts sessions without the GPU and the internet that they request"
)
_LONGEST_MESSAGE = 300  # characters of a reason that are quoted


def gpu_quota(api: Any) -> Quota | None:
    """The user's GPU quota; None where Kaggle names none.

    Raises:
        ChexError: Kaggle does not answer.
    """
    from requests import RequestException

    try:
        answer = api.quota_view()
    except RequestException as error:
        raise explained(error, "while asking for the GPU quota") from error
    gpu = answer.gpu_quota
    if gpu is None or gpu.total_time_allowed is None:
        return None

    def hours(span: timedelta | None) -> float:
        return 0.0 if span is None else span.total_seconds() / 3600  # what was never set is left out of an answer

    refreshed = answer.quota_refresh_time  # in UTC: the client takes the Z off
    return Quota(
        used=hours(gpu.time_used),
        reserved=hours(gpu.time_reserved),
        allowed=hours(gpu.total_time_allowed),
        refreshed=f"{refreshed:%Y-%m-%d %H:%M} UTC" if refreshed else None,
        ever_run=bool(gpu.has_ever_run),
    )


def dataset_status(api: Any, ref: str) -> str | None:
    """How far a dataset is in Kaggle's words, such as "ready"; None where there is none that the user may see.

    Raises:
        ChexError: Kaggle does not answer.
    """
    from requests import RequestException

    try:
        return str(api.dataset_status(ref))
    except RequestException as error:
        if status_of(error) in (403, 404):
            return None
        raise explained(error, f"while looking for the dataset {ref}") from None


def log_in() -> tuple[Any, str]:
    """The client and the name of its user; where it fails, it prints a page of help and exits."""
    from requests import RequestException

    printed = io.StringIO()
    try:
        with redirect_stdout(printed), redirect_stderr(printed):
            from kaggle.api.kaggle_api_extended import KaggleApi

            from chexvision_dispatch.targets import kaggle_http

            api = KaggleApi()
            kaggle_http.complete(api)
            api.authenticate()
    except SystemExit:
        used = token_source()
        if used is not None:
            raise ChexError(
                f"Kaggle does not accept the token in {used} (wrong or expired); {HOW_TO_LOG_IN}"
            ) from None
        raise ChexError(f"no Kaggle credentials; {HOW_TO_LOG_IN}") from None
    except RequestException as error:
        raise explained(error, "while logging in") from error
    except OSError as error:  # it makes its folder when it is imported
        raise ChexError(
            f"Kaggle's client cannot make its folder {error.filename} ({error.strerror}); "
            "set KAGGLE_CONFIG_DIR to one that can be written to"
        ) from None
    user = api.get_config_value("username")
    if not user:
        raise ChexError(f"Kaggle's credentials name no user; {HOW_TO_LOG_IN}")
    return api, str(user)


def token_source() -> str | None:
    """Where the access token that the client sends is from, if there is one."""
    from kagglesdk import get_access_token_from_env

    token, source = get_access_token_from_env()
    if not token:
        return None
    return "~/.kaggle/access_token" if source == "access_token" else str(source)


def known_user() -> str | None:
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


def explained(error: Exception, what: str, kind: type[ChexError] = ChexError) -> ChexError:
    """What a failed request means and what to do, with Kaggle's own reason where it gives one.

    Args:
        error: raised by the client.
        what: was being done, as the end of "Kaggle answered ...".
        kind: of the error to make.
    """
    status = status_of(error)
    if status == 401:
        # The client sends an access token even where it has just fallen back on a right legacy key.
        used = token_source() or "kaggle.json"
        return kind(f"Kaggle does not accept the credentials in {used} (HTTP {status}) {what}; {HOW_TO_LOG_IN}")
    if status is None:
        return kind(f"Kaggle did not answer {what} ({what_happened(error)}); check your connection and try again")
    return kind(f"Kaggle answered {what_happened(error)} {what}; {remedy(message_of(error), status)}")


# What to do, by parts of Kaggle's reasons in lower case, whether these come with HTTP 200 or with an error.
_REMEDIES = {
    "session count": "two sessions run already; wait for one to end, or end one on https://www.kaggle.com/code",
    "already in use": "the kernel's name is taken; dispatch again, which makes a new one",
    "quota": "the week's GPU hours are used up; wait for the new ones, https://www.kaggle.com/settings shows when",
    "phone": "verify your phone number on https://www.kaggle.com/settings",
    "megabyte": "make the largest files of src, configs and kernels smaller, or move them out",
}
_REMEDIES_BY_STATUS = {
    403: f"is it the right account? To change it, {HOW_TO_LOG_IN}",
    404: "check its name",
    409: "a data source is not ready yet; wait a minute",
    429: "too many requests; wait some minutes",
}


def remedy(message: str, status: int = 200) -> str:
    """What to do about a refusal for the reason `message`."""
    known = [hint for words, hint in _REMEDIES.items() if words in message.lower()]
    if known:
        return "; ".join(known)
    return _REMEDIES_BY_STATUS.get(status, "try again" if status >= 500 else "change that, then try again")


def message_of(error: Exception) -> str:
    """The reason that Kaggle gives in the JSON of an error, on one line; empty where it gives none."""
    try:
        message = getattr(error, "response", None).json()["message"]  # type: ignore[union-attr]
    except (AttributeError, KeyError, TypeError, ValueError):
        return ""
    return "".join(char if char.isprintable() else " " for char in str(message))[:_LONGEST_MESSAGE].strip()


def what_happened(error: Exception) -> str:
    """The HTTP status with Kaggle's own reason, or where no answer came the kind of error."""
    status, message = status_of(error), message_of(error)
    if status is None:
        return type(error).__name__
    return f"HTTP {status} ({message.rstrip('. ')})" if message else f"HTTP {status}"
