"""Ending a Kaggle session at once, for which the `kaggle` package has no function, but its SDK has a request."""

from __future__ import annotations

from typing import Any

from chexvision.errors import ChexError
from chexvision.hub.retry import retried
from chexvision_dispatch.run_records import Session
from chexvision_dispatch.targets import kaggle_client as client


def cancel(api: Any, session: Session, session_id: int | None) -> None:
    """Cancel a session by its own id, which only the session itself knows. Its output may be lost.

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
        refusal = retried(lambda: _request(api, session_id), what=f"ending {session.handle}", attempts=4)
    except RequestException as error:
        # Kaggle's own message gives the reason: the credentials are accepted, that session cannot be ended.
        if client.status_of(error) in (400, 403, 404):
            raise ChexError(f"Kaggle does not end session {session_id}: {error}; {by_hand}") from None
        failure = client.explained(error, f"while ending session {session_id}")
        raise ChexError(f"{failure}; or {by_hand}") from error
    if refusal:
        raise ChexError(f"Kaggle did not end session {session_id}: {refusal.rstrip('. ')}; {by_hand}")


def _request(api: Any, session_id: int) -> str:
    from kagglesdk.kernels.types.kernels_api_service import ApiCancelKernelSessionRequest

    request = ApiCancelKernelSessionRequest()
    request.kernel_session_id = session_id
    with api.build_kaggle_client() as kaggle:
        return str(kaggle.kernels.kernels_api_client.cancel_kernel_session(request).error_message)
