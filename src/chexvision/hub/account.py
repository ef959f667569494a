"""A Hub token and what it may do: this machine's own, or one for sessions."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from chexvision.hub.hub_errors import hub_error

NEW_TOKEN_PAGE = "https://huggingface.co/settings/tokens/new?tokenType=fineGrained"
# Both come from a login: they last an hour to 30 days, and the machine that stores them refreshes them.
_OF_A_LOGIN = ("hf_oauth_", "hf_jwt_")


def is_oauth(value: str) -> bool:
    """Whether a token comes from a login, such as `hf auth login` with the browser: a copy of it soon expires."""
    return value.startswith(_OF_A_LOGIN)


@dataclass(frozen=True, slots=True)
class HubToken:
    """A token that the Hub accepts. Its value is in neither the `repr` nor the `str`.

    Args:
        value: the token.
        user: its owner.
        role: "write", "read", "fineGrained", or "oauth" where the Hub reports no role.
        writable: what a fine-grained one may write to.
    """

    value: str = field(repr=False)
    user: str
    role: str
    writable: tuple[str, ...] = ()

    @property
    def may_write(self) -> bool:
        """Whether it may write anything. A login, whose rights the Hub does not report, requests that."""
        return self.role in ("write", "admin", "oauth") or bool(self.writable)

    def __str__(self) -> str:
        if self.role == "oauth":
            return f"of {self.user}, from a browser login (OAuth)"
        if self.role != "fineGrained":
            return f"of {self.user}, role {self.role}"
        return f"of {self.user}, fine-grained, may write to {', '.join(self.writable) or 'nothing'}"

    @property
    def unfit(self) -> str:
        """Why a session cannot publish with a copy of it; empty where it can."""
        if self.role == "oauth":
            return f"is {self}, which expires after 30 days and is refreshed only on this machine"
        return "" if self.may_write else f"({self}) may not write"


def machine_token(remedy: str = "log in again with `hf auth login`") -> HubToken | None:
    """This machine's own token; None where there is none.

    Args:
        remedy: what to do where the Hub does not accept it.

    Raises:
        ChexError: see `ask_about`.
    """
    from huggingface_hub import get_token

    value = get_token()
    return None if value is None else ask_about(value, "this machine's token", remedy)


def ask_about(value: str, name: str, remedy: str) -> HubToken:
    """Ask the Hub about a token.

    Args:
        value: the token.
        name: what it is called, in an error.
        remedy: what to do where the Hub does not accept it.

    Raises:
        ChexError: it does not, or does not answer. The value is never in the message.
    """
    from huggingface_hub import HfApi

    try:
        who = HfApi(token=value).whoami()
    except Exception as error:
        failure = hub_error(error, f"looking up the owner of {name}", token=name, remedy=remedy)
        raise type(failure)(str(failure).replace(value, "***")) from error  # the client may quote the token
    return _read(value, who)


def _read(value: str, who: dict[str, Any]) -> HubToken:
    access = (who.get("auth") or {}).get("accessToken") or {}
    user = str(who.get("name", "?"))
    if is_oauth(value) or not access:
        return HubToken(value, user, "oauth")
    scoped = (access.get("fineGrained") or {}).get("scoped", [])
    writable = (one["entity"].get("name", "?") for one in scoped if "repo.write" in one.get("permissions", []))
    return HubToken(value, user, str(access.get("role", "unknown")), tuple(writable))
