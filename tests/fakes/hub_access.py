"""Access control of the fake Hub: tokens, repositories by name, and the refusals of the real one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal
from urllib.parse import unquote

from .hub_store import Blobs, Repo, not_found
from .messages import HttpError, Request, Response, json_response
from .wire import Wire, route

Role = Literal["write", "read", "fineGrained", "oauth"]
API = r"/api/(?P<kind>model|dataset|space)s/(?P<repo_id>[^/]+/[^/]+)"


@dataclass(frozen=True, slots=True)
class Token:
    """A token: `scopes` maps an entity ("user/chex", "model/chex/x") to permissions of a fine-grained one.

    "oauth" is what `hf auth login` stores since huggingface_hub 1.20: it may do what its user may.
    """

    role: Role
    scopes: Mapping[str, Sequence[str]] = field(default_factory=dict)

    def may_write(self, repo: str, namespace: str) -> bool:
        """Whether it may write to a repo given as "model/chex/x"."""
        if self.role != "fineGrained":
            return self.role in ("write", "oauth")
        return "repo.write" in self.scopes.get(repo, ()) or self.may_create(namespace)

    def may_create(self, namespace: str) -> bool:
        """Whether it may create repositories: a permission for a namespace, never for one repository.

        Source: a token with write access to a repository gets 403 from /api/repos/create, whether the repository
        exists or not (github.com/huggingface/huggingface_hub/issues/2955; `create_repo` of the client, which after
        401, 402 and 403 checks whether the repository exists).
        """
        if self.role != "fineGrained":
            return self.role in ("write", "oauth")
        return any("repo.write" in self.scopes.get(f"{kind}/{namespace}", ()) for kind in ("user", "org"))


class HubAccess(Wire):
    """The part of a fake Hub that handles tokens and repositories."""

    def __init__(self, root: Path, *, token: str, user: str, record_bodies: bool) -> None:
        super().__init__(record_bodies=record_bodies)
        self.user = user
        self.paid_plan = False
        self.tokens: dict[str, Token] = {token: Token("write")}
        self.repos: dict[tuple[str, str], Repo] = {}
        self.blobs = Blobs(root / "blobs")

    def add_token(
        self,
        value: str,
        role: Role = "read",
        scopes: Mapping[str, Sequence[str]] | None = None,
    ) -> None:
        """Accept another token of the same user.

        Args:
            value: The token, as a client sends it.
            role: What it may do everywhere.
            scopes: For "fineGrained": permissions ("repo.content.read", "repo.write") by entity
                ("user/chex", "model/chex/x").
        """
        self.tokens[value] = Token(role, scopes or {})

    def secrets(self) -> list[str]:
        return list(self.tokens)

    def is_right(self, request: Request) -> bool:
        return request.bearer in self.tokens

    def error_response(self, status: int, message: str, headers: dict[str, str]) -> Response:
        return json_response({"error": message}, status, {"X-Error-Message": message, **headers})

    def token_of(self, request: Request) -> Token | None:
        """The request's token, None when it is anonymous.

        Raises:
            HttpError: 401 for an unknown token, even where none would be needed.
        """
        if "Authorization" not in request.headers:
            return None
        if not self.is_right(request):
            raise HttpError(401, "Invalid credentials in Authorization header")
        return self.tokens[request.bearer or ""]

    def repo(self, request: Request, kind: str, repo_id: str, *, write: bool = False) -> Repo:
        """The repository of a request, if its token may read it, and write to it if required.

        Raises:
            HttpError: 401 to the anonymous and 404 to others for what is missing or not to be seen; 403 to a
                token that may not write.
        """
        token = self.token_of(request)
        repo = self.repos.get((kind, unquote(repo_id)))
        hidden = repo is None or (repo.private and token is None)
        if token is None and (hidden or write):
            # Over https the client takes any such 401 for a missing repo; over http it needs the code.
            raise HttpError(401, "Invalid username or password.", {"X-Error-Code": "RepoNotFound"})
        if repo is None:
            raise not_found("RepoNotFound", "Repository not found")
        if write and token is not None:
            self.require_write(token, kind, repo.id)
        return repo

    def require_write(self, token: Token, kind: str, repo_id: str) -> None:
        namespace = repo_id.split("/")[0]
        if namespace != self.user or not token.may_write(f"{kind}/{repo_id}", namespace):
            raise HttpError(403, "Forbidden: pass `create_pr=1` as a query parameter to create a Pull Request")

    @route("GET", "/api/whoami-v2")
    def whoami(self, request: Request) -> Response:
        token = self.token_of(request)
        if token is None:
            raise HttpError(401, "Invalid username or password.")
        user = {"type": "user", "id": "1", "name": self.user, "fullname": self.user, "isPro": False, "orgs": []}
        if token.role == "oauth":
            # No accessToken: huggingface_hub's `_validate_and_save_token`, and what users of `hf auth login` see.
            return json_response({**user, "auth": {"type": "app_token_as_user", "expiresAt": "2026-02-01T00:00:00Z"}})
        access: dict[str, Any] = {"displayName": "test", "role": token.role, "createdAt": "2026-01-01"}
        if token.role == "fineGrained":
            scoped = [
                {"entity": {"_id": name, "type": name.split("/")[0], "name": name.partition("/")[2]},
                 "permissions": list(permissions)}
                for name, permissions in token.scopes.items()
            ]  # fmt: skip
            access["fineGrained"] = {"canReadGatedRepos": False, "global": [], "scoped": scoped}
        return json_response({**user, "auth": {"type": "access_token", "accessToken": access}})

    @route("POST", "/api/repos/create")
    def create_repo(self, request: Request) -> Response:
        token, body = self.token_of(request), request.json()
        if token is None:
            raise HttpError(401, "Invalid username or password.")
        kind, namespace = body.get("type") or "model", body.get("organization") or self.user
        repo_id = f"{namespace}/{body['name']}"
        if namespace != self.user or not token.may_create(namespace):
            right = f'create a {kind} under the namespace "{namespace}"'
            raise HttpError(403, f"You don't have the rights to {right}")
        url = self.repo_url(kind, repo_id)
        with self.lock:
            if (kind, repo_id) in self.repos:
                error = f"You already created this {kind} repo"
                return json_response({"error": error, "url": url}, 409, {"X-Error-Message": error})
            self.require_plan(kind, body.get("sdk"))
            private = body.get("private") or body.get("visibility") == "private"
            repo = Repo(kind, repo_id, bool(private), self.blobs)
            repo.initialize(body.get("sdk"))
            self.repos[kind, repo_id] = repo
        return json_response({"url": url, "name": repo_id, "id": repo_id})

    def require_plan(self, kind: str, sdk: str | None) -> None:
        """Refuse a Space that the user's plan does not include; the static ones are free.

        Source: `create_repo` of huggingface_hub, on `space_sdk`, and its comment on HTTP 402.

        Raises:
            HttpError: 400 without an SDK, 402 without a plan.
        """
        if kind != "space":
            return
        if sdk not in ("static", "gradio", "docker"):
            raise HttpError(400, "Invalid sdk")
        if sdk != "static" and not self.paid_plan:
            raise HttpError(402, f"A subscription is required to create a {sdk} Space")

    @route("DELETE", "/api/repos/delete")
    def delete_repo(self, request: Request) -> Response:
        body = request.json()
        kind = body.get("type") or "model"
        repo = self.repo(request, kind, f"{body.get('organization') or self.user}/{body['name']}", write=True)
        del self.repos[kind, repo.id]
        return json_response({})

    @route("PUT", f"{API}/settings")
    def update_settings(self, request: Request, kind: str, repo_id: str) -> Response:
        repo, body = self.repo(request, kind, repo_id, write=True), request.json()
        if "private" in body or "visibility" in body:
            repo.private = bool(body.get("private") or body.get("visibility") == "private")
        return json_response({"private": repo.private})

    @route("GET", f"{API}/auth-check(?P<write>/write)?")
    def auth_check(self, request: Request, kind: str, repo_id: str, write: str | None) -> Response:
        self.repo(request, kind, repo_id, write=write is not None)
        return json_response({})

    def repo_url(self, kind: str, repo_id: str) -> str:
        raise NotImplementedError
