"""Starting a session on Kaggle once, also where the answer is lost, and ending one at once."""

from __future__ import annotations

import sys
import time
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

from chexvision.errors import ChexError
from chexvision.provenance import now
from chexvision.retry import retried, status_of
from chexvision_dispatch.run_records import Session
from chexvision_dispatch.targets import kaggle_client as client
from chexvision_dispatch.targets.target import Busy, NotAsRequested, Refused

# A push whose answer was lost shows up within seconds, or never. Seconds before each poll.
POLLS = (1.0, 3.0, 6.0)


def push(api: Any, kernel: str, folder: Path, timeout_s: int) -> Session:
    """Push the kernel in `folder`, which starts a session of it.

    Raises:
        Refused: Kaggle does not take it.
        NotAsRequested: the session lacks a data source.
        ChexError: whether the push arrived is not known.
    """
    from requests import RequestException

    try:
        with redirect_stdout(sys.stderr):  # the client prints its warnings to where our results go
            answer = api.kernels_push(str(folder), timeout=str(timeout_s))
    except RequestException as error:
        status = status_of(error)
        if status is not None and status < 500:
            raise client.explained(error, "and refused the push", _refusal(client.message_of(error))) from error
        _wait_for(api, kernel, error)
        return Session(now(), kernel, page_of(kernel))
    except ValueError as error:
        raise Refused(f"the kaggle package refused {folder}: {error}") from None
    return _session(kernel, answer)


def _wait_for(api: Any, kernel: str, error: Exception) -> None:
    from requests import RequestException

    print("Kaggle's answer to the push was lost; checking whether it arrived", file=sys.stderr)
    for seconds in POLLS:
        time.sleep(seconds)
        try:
            if is_shown(api, kernel):
                return
        except RequestException as unanswered:
            error = unanswered
    raise ChexError(
        f"Kaggle did not answer the push ({client.what_happened(error)}) and shows no kernel {kernel}; "
        f"if {page_of(kernel)} stays empty in a minute, dispatch again"
    ) from error


def is_shown(api: Any, kernel: str) -> bool:
    """Whether Kaggle has the kernel.

    Raises:
        requests.RequestException: it does not answer.
    """
    from requests import RequestException

    try:
        api.kernels_status(kernel)
    except ValueError:
        return False  # the client's error for 401 and 403: there is no such kernel
    except RequestException as error:
        if status_of(error) == 404:
            return False
        raise
    return True


def _session(kernel: str, answer: Any) -> Session:
    if answer.error:
        reason = answer.error.rstrip(". ")
        raise _refusal(reason)(f"Kaggle refused the push: {reason}; {client.remedy(reason)}")
    page = answer.url or page_of(kernel)
    dropped = [*(answer.invalid_dataset_sources or []), *(answer.invalid_kernel_sources or [])]
    session = Session(now(), kernel, page)
    if dropped:
        raise NotAsRequested(
            f"Kaggle started the session without {', '.join(dropped)}, which it does not find or does not attach, so "
            f"it may publish nothing or begin again; end it with `chexvision runs cancel --now` or on {page}",
            session,
        )
    return session


def _refusal(reason: str) -> type[Refused]:
    """What a push that Kaggle refuses for `reason` raises."""
    return Busy if "session count" in reason.lower() else Refused


def page_of(kernel: str) -> str:
    """The address of a kernel."""
    return f"https://www.kaggle.com/code/{kernel}"


def cancel(api: Any, session: Session, session_id: int | None) -> None:
    """Cancel a session by its own id, which only the session itself knows. Its output may be lost.

    The `kaggle` package has no function for this, but its SDK has a request.

    Args:
        api: logged in with the account that started it.
        session: the session.
        session_id: the number in its ``KAGGLE_CONTAINER_NAME``.

    Raises:
        ChexError: the id is not known, or Kaggle refuses or does not answer; the page to end it on is named.
    """
    from requests import RequestException

    by_hand = f"end it on {session.page}"
    if session_id is None:
        raise ChexError(
            "the id of the session is not known: only the session itself can report it, on the run's branch, once it "
            f"has begun and if it has a Hub token; {by_hand}"
        )
    try:
        refusal = retried(lambda: _request_end(api, session_id), what=f"ending {session.handle}", attempts=4)
    except RequestException as error:
        # Kaggle's own message gives the reason: the credentials are accepted, that session cannot be ended.
        if status_of(error) in (400, 403, 404):
            raise ChexError(f"Kaggle does not end session {session_id}: {error}; {by_hand}") from None
        failure = client.explained(error, f"while ending session {session_id}")
        raise ChexError(f"{failure}; or {by_hand}") from error
    if refusal:
        raise ChexError(f"Kaggle did not end session {session_id}: {refusal.rstrip('. ')}; {by_hand}")


def _request_end(api: Any, session_id: int) -> str:
    from kagglesdk.kernels.types.kernels_api_service import ApiCancelKernelSessionRequest

    request = ApiCancelKernelSessionRequest()
    request.kernel_session_id = session_id
    with api.build_kaggle_client() as kaggle:
        return str(kaggle.kernels.kernels_api_client.cancel_kernel_session(request).error_message)
