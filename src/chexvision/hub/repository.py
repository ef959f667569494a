"""A repository on the Hub as the laptop and a session see it: there or not, and whether the token may write to it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, TypeVar

from chexvision.errors import ChexError
from chexvision.hub.retry import is_transient, reason, retried, status_of

RepoType = Literal["model", "dataset"]
T = TypeVar("T")


class NotAllowed(ChexError):
    """The token is wrong, expired, or may not write there; trying again will not help."""


def create_repository(repo_id: str, repo_type: RepoType, *, token: str | None = None, private: bool = False) -> None:
    """Create a repository unless it exists.

    Args:
        repo_id: ``USER/NAME``.
        repo_type: "model" or "dataset".
        token: of the Hub; the user's own where left out.
        private: whether only its owner is to see it. The visibility of one that exists is never changed.

    Raises:
        NotAllowed: the token may not create it, or it exists, public, and was to be private.
        ChexError: the Hub does not answer.
    """
    from huggingface_hub import HfApi

    api = HfApi(token=token)
    try:
        asked(
            lambda: api.create_repo(repo_id, repo_type=repo_type, private=private or None, exist_ok=True),
            repo_id,
            "creating the repository",
        )
    except NotAllowed as error:
        if status_of(error) != 403:
            raise
        page = "new" if repo_type == "model" else f"new-{repo_type}"
        raise NotAllowed(
            f"the token may not create {repo_id} (HTTP 403), which does not exist or is hidden from it; a token for "
            f"single repositories never may: create it on https://huggingface.co/{page} first"
        ) from error
    if private and not asked(
        lambda: api.repo_info(repo_id, repo_type=repo_type).private, repo_id, "reading the visibility"
    ):
        raise NotAllowed(
            f"{repo_id} exists and is public, --private does not change that, and nothing was sent to it; make it "
            "private on its page, or choose another name"
        )


def asked(call: Callable[[], T], repo_id: str, what: str) -> T:
    """What `call`, which asks the Hub, returns; it is retried while its failures are transient.

    Args:
        call: may be called again after it failed halfway.
        repo_id: the repository it is about.
        what: what it does with it, such as "reading its tags".

    Raises:
        NotAllowed: the token is not accepted, or may not do that.
        ChexError: anything else failed.
    """
    try:
        return retried(call, what=f"{repo_id}: {what}")
    except Exception as error:  # each generation of the client lets another HTTP library's errors out
        if status_of(error) in (401, 403):
            refuses = "does not accept the token" if status_of(error) == 401 else "does not let the token do that"
            raise NotAllowed(
                f"the Hub {refuses} (HTTP {status_of(error)} on {what} of {repo_id}); make a "
                "fine-grained one with write access to that repository on https://huggingface.co/settings/tokens"
            ) from error
        after = "try again later" if is_transient(error) else "look at the repository's name"
        raise ChexError(f"the Hub failed on {what} of {repo_id}: {reason(error)}; {after}") from error
