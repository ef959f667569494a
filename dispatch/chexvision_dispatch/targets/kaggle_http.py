"""What the `kaggle` package's HTTP sessions lack: time limits, and UTF-8."""

from __future__ import annotations

from typing import Any

from requests import PreparedRequest, Response
from requests.adapters import HTTPAdapter

# Seconds to connect, and without a byte of an answer. The package sets none: a connection that is lost while a laptop
# sleeps would be waited for forever.
TIMEOUT = (15.0, 300.0)


class _Adapter(HTTPAdapter):
    def send(self, request: PreparedRequest, *args: Any, **kwargs: Any) -> Response:
        kwargs["timeout"] = kwargs.get("timeout") or TIMEOUT
        return super().send(request, *args, **kwargs)

    def build_response(self, req: PreparedRequest, resp: Any) -> Response:
        response = super().build_response(req, resp)
        response.encoding = "utf-8"  # logs come without a charset, which means Latin-1 to requests
        return response


def complete(api: Any) -> None:
    """Have every client that `api`, a `KaggleApi`, builds use `TIMEOUT` and read text as UTF-8."""
    build = api.build_kaggle_client

    def built() -> Any:
        client = build()
        http = client._http_client  # as the package itself does for log streams
        http._init_session()
        for scheme in ("https://", "http://"):
            http._session.mount(scheme, _Adapter())
        return client

    api.build_kaggle_client = built
