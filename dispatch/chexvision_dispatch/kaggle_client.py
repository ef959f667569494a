"""The `kaggle` package's client: logging in, and what its errors mean."""

from __future__ import annotations

import io
import json
import os
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from chexvision.errors import ChexError

HOW_TO_LOG_IN = (
    "make a token on https://www.kaggle.com/settings (API, Generate New Token), "
    "then type: export KAGGLE_API_TOKEN=... (or put it into ~/.kaggle/access_token)"
)


@dataclass(frozen=True, slots=True)
class Quota:
    """GPU hours of this week. `refreshed` is when the next week begins, ISO 8601, where Kaggle says."""

    used: float
    allowed: float
    refreshed: str | None

    @property
    def left(self) -> float:
        """Hours."""
        return max(0.0, self.allowed - self.used)


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
    if answer.gpu_quota is None:
        return None
    hours = [
        span.total_seconds() / 3600 for span in (answer.gpu_quota.time_used, answer.gpu_quota.total_time_allowed)
    ]
    refreshed = answer.quota_refresh_time
    return Quota(hours[0], hours[1], refreshed.isoformat(timespec="minutes") if refreshed else None)


def log_in() -> tuple[Any, str]:
    """The client and the name of its user; its own way of saying no is a page of help and `exit`."""
    from requests import RequestException

    said = io.StringIO()
    try:
        with redirect_stdout(said), redirect_stderr(said):
            from kaggle.api.kaggle_api_extended import KaggleApi

            from chexvision_dispatch import kaggle_http

            api = KaggleApi()
            kaggle_http.complete(api)
            api.authenticate()
    except SystemExit:
        used = token_place()
        if used is not None:
            raise ChexError(
                f"Kaggle does not accept the token in {used} (wrong or expired); {HOW_TO_LOG_IN}"
            ) from None
        raise ChexError(f"no Kaggle credentials; {HOW_TO_LOG_IN}") from None
    except RequestException as error:
        raise explained(error, "while logging in") from error
    user = api.get_config_value("username")
    if not user:
        raise ChexError(f"Kaggle's credentials name no user; {HOW_TO_LOG_IN}")
    return api, str(user)


def token_place() -> str | None:
    """Where the access token that the client sends stands, if there is one."""
    from kagglesdk import get_access_token_from_env

    token, place = get_access_token_from_env()
    if not token:
        return None
    return "~/.kaggle/access_token" if place == "access_token" else str(place)


def written_down_user() -> str | None:
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
    status = status_of(error)
    if status in (401, 403):
        # The client sends an access token even where it has just fallen back on a right legacy key.
        used = token_place() or "kaggle.json"
        return kind(f"Kaggle does not accept the credentials in {used} (HTTP {status}) {what}; {HOW_TO_LOG_IN}")
    if status is None:
        return kind(f"Kaggle did not answer {what} ({what_happened(error)}); look at your connection and try again")
    hints = {409: "a data source is not ready yet; wait a minute", 429: "too many requests; wait some minutes"}
    hint = hints.get(status, "try again")
    return kind(f"Kaggle answered {what_happened(error)} {what}; {hint}")


def status_of(error: Exception) -> int | None:
    status = getattr(getattr(error, "response", None), "status_code", None)
    return status if isinstance(status, int) else None


def what_happened(error: Exception) -> str:
    status = status_of(error)
    return f"HTTP {status}" if status is not None else type(error).__name__
