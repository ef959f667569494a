"""Where a session finds its Hub token: the environment, Kaggle's secrets, or an attached private dataset."""

from __future__ import annotations

import logging
import os
from dataclasses import dataclass, field
from pathlib import Path

from chexvision.errors import ChexError
from chexvision.runs.mounts import attached_files

SECRET_LABEL = "HF_TOKEN"
TOKEN_FILE = "hf_token.txt"

_VARIABLES = ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN")
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class SessionToken:
    """A Hub token and where it came from. The value is not in its `repr`."""

    value: str = field(repr=False)
    source: str


def session_token(input_dir: Path) -> SessionToken | None:
    """Find the session's Hub token.

    Args:
        input_dir: where data sources are mounted; one of them may hold ``hf_token.txt``.

    Returns:
        The first token found; None where there is none at all.

    Raises:
        ChexError: a source that should hold a token holds something else.
    """
    for variable in _VARIABLES:
        if os.environ.get(variable, "").strip():
            return _checked(os.environ[variable], f"the environment variable {variable}")
    secret = _kaggle_secret()
    if secret is not None:
        return _checked(secret, f"Kaggle's secret {SECRET_LABEL}")
    for file in attached_files(input_dir, TOKEN_FILE):
        return _checked(file.read_text(encoding="utf-8", errors="replace"), f"the attached file {file}")
    return None


def _kaggle_secret() -> str | None:
    try:
        from kaggle_secrets import UserSecretsClient
    except ImportError:
        return None
    try:
        return str(UserSecretsClient().get_secret(SECRET_LABEL))
    except Exception as error:  # noqa: BLE001 - the client has an exception of its own for each way to have none
        _log.info("Kaggle's secrets hold no %s for this session (%s)", SECRET_LABEL, type(error).__name__)
        return None


def _checked(text: str, source: str) -> SessionToken:
    value = text.strip()
    if not value or len(value.split()) != 1 or not value.isprintable():
        raise ChexError(f"{source} must hold a Hub token and nothing else; put one there or remove it")
    return SessionToken(value, source)
