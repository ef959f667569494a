"""Authentication of the fake Kaggle."""

from __future__ import annotations

import base64
import json

from .messages import HttpError, Request, Response, json_response
from .wire import Wire, route


class KaggleAccess(Wire):
    """Credentials of the one user, access token and legacy key."""

    # The client sends its own token to the introspection by design.
    unrecorded_bodies = r"/IntrospectToken$"

    def __init__(self, *, user: str, token: str, key: str, record_bodies: bool) -> None:
        super().__init__(record_bodies=record_bodies)
        self.user = user
        self.token = token
        self.key = key

    def secrets(self) -> list[str]:
        return [self.token, self.key]

    def is_right(self, request: Request) -> bool:
        legacy = base64.b64encode(f"{self.user}:{self.key}".encode()).decode()
        return request.headers.get("Authorization") in (f"Bearer {self.token}", f"Basic {legacy}")

    def error_response(self, status: int, message: str, headers: dict[str, str]) -> Response:
        return json_response({"code": status, "message": message}, status, headers)

    def require_user(self, request: Request) -> None:
        """Refuse requests of other users.

        Raises:
            HttpError: 401.
        """
        if not self.is_right(request):
            raise HttpError(401, "Unauthenticated")

    @route("POST", r"/v1/security\.OAuthService/IntrospectToken")
    def introspect_token(self, request: Request) -> Response:
        if json.loads(request.body).get("token") != self.token:
            return json_response({"active": False})
        return json_response({"active": True, "username": self.user, "userId": 1, "scope": "resources.admin:*"})
