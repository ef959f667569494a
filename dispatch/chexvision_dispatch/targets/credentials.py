"""The Hub token of Kaggle's sessions: a private dataset holds it, since the API can attach no secret."""

from __future__ import annotations

import json
import sys
import tempfile
from contextlib import redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from chexvision.errors import ChexError, UsageError
from chexvision.files.atomic import write_text_atomic
from chexvision.hub.account import NEW_TOKEN_PAGE, HubToken, ask_about, machine_token
from chexvision.runs.session_token import TOKEN_FILE
from chexvision_dispatch import run_records as records
from chexvision_dispatch.targets import kaggle_client as client

DATASET = "chexvision-hub-token"


@dataclass(frozen=True, slots=True)
class TokenSource:
    """Where a token may come from.

    Args:
        name: of the source.
        works: whether a session, or this machine, would get a right token there; None where that is not known.
        note: what was found, without any value, or what to do.
    """

    name: str
    works: bool | None
    note: str


def _memory() -> Path:
    return records.runs_dir().with_name("credentials.json")


def remembered_dataset() -> str | None:
    """``OWNER/SLUG`` of the dataset that `sync` made, which dispatches attach by themselves."""
    try:
        found = json.loads(_memory().read_text(encoding="utf-8"))["kaggle_dataset"]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return found if isinstance(found, str) else None


def session_token(text: str, source: str) -> HubToken:
    """A token that was given for sessions, once the Hub has confirmed that they can publish with it.

    Args:
        text: the token, with white space around it.
        source: where it is from, such as "from the file token.txt".

    Raises:
        UsageError: it is not one word.
        ChexError: the Hub does not accept it, or a session cannot publish with it.
    """
    value = text.strip()
    if len(value.split()) != 1 or not value.isprintable():
        raise UsageError(f"the input {source} is not just a Hub token; copy one from {NEW_TOKEN_PAGE}")
    token = ask_about(value, f"the token {source}", f"make another one on {NEW_TOKEN_PAGE}")
    if token.unfit:
        raise ChexError(f"the token {source} {token.unfit}; make a fine-grained one on {NEW_TOKEN_PAGE}")
    return token


def sync(token: HubToken, dataset: str | None) -> tuple[str, bool]:
    """Put a Hub token into a private dataset on Kaggle, and remember the dataset's name.

    Args:
        token: a session's, from `session_token`, or this machine's if it is not `HubToken.unfit`.
        dataset: ``OWNER/SLUG``; the user's own ``chexvision-hub-token`` where left out.

    Returns:
        The dataset, and whether it was created now; it was given a new version otherwise.

    Raises:
        ChexError: Kaggle refuses.
    """
    from requests import RequestException

    if token.unfit:
        raise ValueError(f"the token {token.unfit}")
    api, user = client.log_in()
    ref = dataset or f"{user}/{DATASET}"
    known = client.dataset_status(api, ref)
    # The client uploads from files: one of its own, readable by this user alone and deleted right afterwards.
    with tempfile.TemporaryDirectory() as folder, redirect_stdout(sys.stderr):
        (Path(folder) / TOKEN_FILE).touch(mode=0o600)
        (Path(folder) / TOKEN_FILE).write_text(token.value + "\n", encoding="utf-8")
        metadata = {"id": ref, "title": ref.split("/")[1], "licenses": [{"name": "other"}]}
        (Path(folder) / "dataset-metadata.json").write_text(json.dumps(metadata), encoding="utf-8")
        try:
            if known is None:
                answer = api.dataset_create_new(folder, public=False, quiet=True, convert_to_csv=False)
            else:
                _require_private(api, ref)
                answer = api.dataset_create_version(
                    folder, "token", quiet=True, convert_to_csv=False, delete_old_versions=True
                )
        except RequestException as error:
            raise client.explained(error, f"while uploading the dataset {ref}") from None
        except ValueError as error:
            raise ChexError(f"the kaggle package refused the dataset {ref}: {error}") from None
    if answer is None or answer.error or str(answer.status).lower() != "ok":
        raise ChexError(f"Kaggle did not accept the dataset {ref}: {answer.error if answer else 'it did not arrive'}")
    write_text_atomic(_memory(), json.dumps({"kaggle_dataset": ref}) + "\n")
    return ref, known is None


def _is_private(api: Any, ref: str) -> bool:
    from kagglesdk.datasets.types.dataset_api_service import ApiGetDatasetRequest

    request = ApiGetDatasetRequest()
    request.owner_slug, request.dataset_slug = ref.split("/")
    with api.build_kaggle_client() as kaggle:
        return bool(kaggle.datasets.dataset_api_client.get_dataset(request).is_private)


def _require_private(api: Any, ref: str) -> None:
    if not _is_private(api, ref):
        raise ChexError(f"the dataset {ref} is public and must not contain a token; name another one: --dataset")


def status() -> list[TokenSource]:
    """Where a token would come from, on this machine and in a session on Kaggle; never what it is."""
    sources = [_of_this_machine()]
    sources.append(
        TokenSource("Kaggle secret HF_TOKEN", None, "only a kernel's page can attach it, and each push detaches it")
    )
    try:
        api, user = client.log_in()
    except ChexError as error:
        return [*sources, TokenSource("Kaggle credentials", False, str(error))]
    sources.append(TokenSource("Kaggle credentials", True, f"of {user}"))
    ref = remembered_dataset() or f"{user}/{DATASET}"
    state = client.dataset_status(api, ref)
    if state is None:
        note = f"there is no dataset {ref}; make it with: chexvision credentials sync"
        return [*sources, TokenSource("Kaggle token dataset", False, note)]
    if not _is_private(api, ref):
        note = f"{ref} is PUBLIC: delete it (chexvision credentials forget) and revoke the token"
        return [*sources, TokenSource("Kaggle token dataset", False, note)]
    return [*sources, TokenSource("Kaggle token dataset", state == "ready", f"{ref}, private, {state}")]


def _of_this_machine() -> TokenSource:
    name = "Hub token of this machine"
    try:
        token = machine_token()
    except ChexError as error:
        return TokenSource(name, False, str(error))
    if token is None:
        return TokenSource(name, False, "none; log in with `hf auth login`")
    alone = "; not for sessions: `chexvision credentials sync` asks for one that is" if token.unfit else ""
    return TokenSource(name, token.may_write, f"{token}{alone}")


def forget() -> str | None:
    """Delete the dataset on Kaggle and forget its name; returns it, None where there was none.

    Raises:
        ChexError: Kaggle refuses.
    """
    from requests import RequestException

    api, user = client.log_in()
    ref = remembered_dataset() or f"{user}/{DATASET}"
    known = client.dataset_status(api, ref) is not None
    if known:
        try:
            api.dataset_delete(*ref.split("/"), no_confirm=True)
        except RequestException as error:
            raise client.explained(error, f"while deleting the dataset {ref}") from None
    _memory().unlink(missing_ok=True)
    return ref if known else None
