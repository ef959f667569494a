"""The one place that turns what the Hub's client raises into our errors: one wording per situation.

Each generation of the client lets errors of another HTTP library through, so callers catch `Exception` around a call
of the client and raise what `hub_error` returns; `call_hub` does that, with retries.
"""

from __future__ import annotations

import errno
from collections.abc import Callable
from typing import Literal, TypeVar

from chexvision.errors import ChexError
from chexvision.hub.reference import RepoRef
from chexvision.retry import is_transient, reason, response_of, retried, status_of

RepoType = Literal["model", "dataset", "space"]
T = TypeVar("T")

_LOG_IN = "log in again (hf auth login), or set HF_TOKEN to a new one of https://huggingface.co/settings/tokens"
_DISK_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_QUOTA = ("quota", "storage limit", "out of storage")  # the Hub answers 403 to an upload that has no room


class NotAllowed(ChexError):
    """The token is wrong, expired, or lacks the right; trying again will not help."""


class NotPrivate(NotAllowed):
    """The repository exists and is public, and was to be private."""


class Missing(ChexError):
    """The Hub does not have it, or does not show it to this user."""


def call_hub(
    call: Callable[[], T],
    what: str,
    of: RepoRef | None = None,
    repo_type: RepoType = "model",
    *,
    attempts: int = 6,
    download: bool = False,
) -> T:
    """What `call`, which asks the Hub, returns; it is retried while its failures are transient.

    Args:
        call: may be called again after it failed halfway.
        what: what it does, such as "reading the tags".
        of: the repository that it does it with, if any.
        repo_type: of that repository.
        attempts: how often to call at most.
        download: see `hub_error`.

    Raises:
        ChexError: see `hub_error`.
    """
    try:
        return retried(call, what=what if of is None else f"{of.repo_id}: {what}", attempts=attempts)
    except Exception as error:
        raise hub_error(error, what, of, repo_type, download=download) from error


def hub_error(
    error: Exception,
    what: str,
    of: RepoRef | None = None,
    repo_type: RepoType = "model",
    *,
    token: str = "the token",
    remedy: str = _LOG_IN,
    download: bool = False,
) -> ChexError:
    """Our error for one of the Hub's client; one of ours is returned as it is.

    Args:
        error: what the client raised.
        what: what failed, such as "reading the tags".
        of: the repository that it was about, if any.
        repo_type: of that repository.
        token: what the token is called, where it is not accepted.
        remedy: what to do then.
        download: whether the call is a part of a download that a complete cache makes unnecessary.

    Returns:
        `Missing`, `NotAllowed`, or another `ChexError`.
    """
    from huggingface_hub import constants
    from huggingface_hub.errors import LocalEntryNotFoundError, OfflineModeIsEnabled

    if isinstance(error, ChexError):
        return error
    if isinstance(error, OSError) and error.errno in _DISK_FULL:
        return ChexError(
            f"the disk of {constants.HF_HUB_CACHE} is full; free some space, or set HF_HOME to a larger disk"
        )
    missing = _missing(error, what, of, repo_type) if of is not None else None
    if missing is not None:
        return Missing(missing)
    status, why = status_of(error), reason(error)
    doing = what if of is None else f"{what} of {of.repo_id}"
    if status == 402 or (status in (403, 413) and any(word in why.lower() for word in _QUOTA)):
        return ChexError(
            f"the Hub refuses {doing}, the account's quota is used up ({why}); free storage or add credit: "
            "https://huggingface.co/settings/billing"
        )
    if status == 401:
        return NotAllowed(f"the Hub does not accept {token} (wrong or expired); {remedy}")
    if status == 403:
        return NotAllowed(
            f"the Hub does not let the token do that ({why}, on {doing}); make a fine-grained one with that right "
            "on https://huggingface.co/settings/tokens"
        )
    offline = constants.HF_HUB_OFFLINE or isinstance(error, OfflineModeIsEnabled)
    because = "HF_HUB_OFFLINE is set" if offline else f"the Hub did not answer ({why})"
    if of is not None and ((download and offline) or isinstance(error, LocalEntryNotFoundError)):
        folder = ", or pull it into a folder (chexvision pull) and name that" if repo_type == "model" else ""
        return ChexError(
            f"{repo_type} {of} is not complete in the cache {constants.HF_HUB_CACHE} ({what}), and {because}; fetch "
            f"it once while online{folder}"
        )
    if offline or is_transient(error):
        what_to_do = "unset it" if offline else "check the network and try again later"
        return ChexError(f"{doing} failed, {because}; {what_to_do}")
    return ChexError(f"the Hub failed on {doing}: {why}; check the name, the revision and the network")


def _missing(error: Exception, what: str, of: RepoRef, repo_type: RepoType) -> str | None:
    """What the Hub does not have or show; None where the error is another."""
    from huggingface_hub.errors import (
        GatedRepoError,
        RemoteEntryNotFoundError,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    page = f"https://huggingface.co/{'' if repo_type == 'model' else f'{repo_type}s/'}{of.repo_id}"
    if isinstance(error, GatedRepoError):
        return f"{repo_type} {of.repo_id} is gated: accept its terms on {page}, then log in (hf auth login)"
    if isinstance(error, RevisionNotFoundError):
        return f"{repo_type} {of.repo_id} has no revision {of.revision}; they are listed on {page}/commits/main"
    if isinstance(error, RepositoryNotFoundError) and not _refused_token(error):
        return (
            f"the Hub has no {repo_type} {of.repo_id}, or hides it from you; check the name and, if it is private, "
            "log in (hf auth login) or set HF_TOKEN"
        )
    if isinstance(error, RemoteEntryNotFoundError):
        return f"{repo_type} {of} has no such file ({what}); check the revision on {page}"
    return None


def _refused_token(error: Exception) -> bool:
    """Whether a token was sent and not accepted: to the anonymous the Hub answers 401 about what it does not show."""
    response = response_of(error)
    return response is not None and response.status_code == 401 and "authorization" in response.request.headers
