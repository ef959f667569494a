"""The fake Hub's `/api`: information, listings, references and commits."""

from __future__ import annotations

import base64
import json
from typing import Any
from urllib.parse import parse_qs, quote, unquote, urlencode

import yaml

from .hub_access import API, HubAccess
from .hub_store import REGULAR_LIMIT, Commit, Entry, Repo, not_found
from .messages import HttpError, Request, Response, json_response
from .wire import route


def _entry_json(path: str, entry: Entry | None, commit: Commit, expand: bool) -> dict[str, Any]:
    if entry is None:
        return {"type": "directory", "oid": commit.sha, "size": 0, "path": path}
    info: dict[str, Any] = {"type": "file", "oid": entry.oid, "size": entry.size, "path": path}
    if entry.lfs:
        info["lfs"] = {"oid": entry.sha256, "size": entry.size, "pointerSize": len(entry.pointer())}
    if expand:
        info["lastCommit"] = {"id": commit.sha, "title": commit.title, "date": commit.date}
        info["securityFileStatus"] = {"status": "safe", "avScan": None, "pickleImportScan": None}
    return info


def _sibling_json(entry: Entry, blobs: bool) -> dict[str, Any]:
    info: dict[str, Any] = {"rfilename": entry.path}
    if blobs:
        info |= {"size": entry.size, "blobId": entry.oid}
        if entry.lfs:
            pointer_size = len(entry.pointer())
            info["lfs"] = {"sha256": entry.sha256, "size": entry.size, "pointerSize": pointer_size}
    return info


class HubApi(HubAccess):
    """Routes below `/api/{models,datasets,spaces}/{namespace}/{name}`, and the card's check."""

    page_size = 1000

    @route("POST", "/api/validate-yaml")
    def validate_yaml(self, request: Request) -> Response:
        content = request.json()["content"]
        if not content.startswith("---"):
            warning = {"message": "empty or missing yaml metadata in repo card"}
            return json_response({"errors": [], "warnings": [warning]})
        if "\n---" not in content[3:]:
            error = {"message": "YAML metadata is not closed by ---"}
            return json_response({"errors": [error], "warnings": []}, 400)
        return json_response({"errors": [], "warnings": []})

    @route("GET", "/api/models")
    def list_models(self, request: Request) -> Response:
        """Models of an author whose card names a library; private ones are shown to a token of their owner."""
        author, library = (request.query.get(key, [""])[0] for key in ("author", "filter"))
        owner = self.token_of(request) is not None
        found = []
        for (kind, name), repo in sorted(self.repos.items()):
            commit = repo.resolve("main")
            card = commit.entries.get("README.md")
            text = self.blobs.path(card.sha256).read_text() if card is not None else ""
            if kind != "model" or name.split("/")[0] != author or (repo.private and not owner):
                continue
            if f"library_name: {library}\n" in text:
                found.append({"_id": name, "id": name, "sha": commit.sha, "private": repo.private, "tags": [library]})
        return self._page(request, found)

    @route("GET", f"{API}(/revision/(?P<revision>[^/]+))?")
    def repo_info(self, request: Request, kind: str, repo_id: str, revision: str | None) -> Response:
        repo = self.repo(request, kind, repo_id)
        commit = repo.resolve(unquote(revision or "main"))
        blobs = request.query.get("blobs", ["false"])[0].lower() == "true"
        info: dict[str, Any] = {
            "_id": repo.id, "id": repo.id, "author": repo.id.split("/")[0], "sha": commit.sha,
            "lastModified": commit.date, "createdAt": repo.history("main")[-1].date,
            "private": repo.private, "gated": repo.gated, "disabled": False, "downloads": 0, "likes": 0,
            "tags": [], "usedStorage": sum(one.size for one in repo.lfs.values()),
            "siblings": [_sibling_json(entry, blobs) for _, entry in sorted(commit.entries.items())],
        }  # fmt: skip
        if (card := self._card_data(commit)) is not None:
            info["cardData"] = card
        if expand := request.query.get("expand") or request.query.get("expand[]"):
            info = {key: value for key, value in info.items() if key in ("_id", "id", *expand)}
        return json_response(info, headers={"X-Repo-Commit": commit.sha})

    def _card_data(self, commit: Commit) -> Any:
        """The YAML head of the card, as `DatasetInfo` and `ModelInfo` of huggingface_hub read it from `cardData`."""
        readme = commit.entries.get("README.md")
        text = self.blobs.path(readme.sha256).read_text(errors="replace") if readme is not None else ""
        parts = text.split("---\n", 2)
        return yaml.safe_load(parts[1]) if len(parts) == 3 and not parts[0] else None

    @route("GET", f"{API}/refs")
    def list_refs(self, request: Request, kind: str, repo_id: str) -> Response:
        repo = self.repo(request, kind, repo_id)
        refs: dict[str, Any] = {"converts": []}
        if "include_prs" in request.query:
            refs["pullRequests"] = []
        for key, where, names in (("branches", "heads", repo.branches), ("tags", "tags", repo.tags)):
            refs[key] = [
                {"name": name, "ref": f"refs/{where}/{name}", "targetCommit": sha} for name, sha in names.items()
            ]
        return json_response(refs)

    @route("GET", f"{API}/commits/(?P<revision>[^/]+)")
    def list_commits(self, request: Request, kind: str, repo_id: str, revision: str) -> Response:
        repo = self.repo(request, kind, repo_id)
        return self._page(
            request,
            [
                {"id": commit.sha, "title": commit.title, "message": commit.message, "date": commit.date,
                 "authors": [{"user": self.user}]}
                for commit in repo.history(unquote(revision))
            ],
        )  # fmt: skip

    @route("GET", f"{API}/tree/(?P<revision>[^/]+)(/(?P<folder>.+))?")
    def list_tree(self, request: Request, kind: str, repo_id: str, revision: str, folder: str | None) -> Response:
        repo = self.repo(request, kind, repo_id)
        commit = repo.resolve(unquote(revision))
        flags = {name: request.query.get(name, ["false"])[0].lower() == "true" for name in ("recursive", "expand")}
        entries = repo.tree(commit, unquote(folder or ""), flags["recursive"])
        found = [_entry_json(path, entry, commit, flags["expand"]) for path, entry in entries]
        return self._page(request, found)

    @route("POST", f"{API}/paths-info/(?P<revision>[^/]+)")
    def paths_info(self, request: Request, kind: str, repo_id: str, revision: str) -> Response:
        repo = self.repo(request, kind, repo_id)
        commit = repo.resolve(unquote(revision))
        form = parse_qs(request.body.decode())
        expand = form.get("expand", ["false"])[0].lower() == "true"
        known = dict(repo.tree(commit, "", recursive=True))
        wanted = [path.rstrip("/") for path in form.get("paths", [])]
        return json_response([_entry_json(path, known[path], commit, expand) for path in wanted if path in known])

    @route("POST", f"{API}/branch/(?P<branch>[^/]+)")
    def create_branch(self, request: Request, kind: str, repo_id: str, branch: str) -> Response:
        repo = self.repo(request, kind, repo_id, write=True)
        with self.lock:
            if unquote(branch) in repo.branches:
                raise HttpError(409, "Reference already exists")
            start = (request.json() or {}).get("startingPoint") or "main"
            repo.branches[unquote(branch)] = repo.resolve(start).sha
        return json_response({})

    @route("DELETE", f"{API}/branch/(?P<branch>[^/]+)")
    def delete_branch(self, request: Request, kind: str, repo_id: str, branch: str) -> Response:
        repo = self.repo(request, kind, repo_id, write=True)
        if branch == "main":
            raise HttpError(403, "The main branch cannot be deleted")
        if repo.branches.pop(unquote(branch), None) is None:
            raise not_found("RevisionNotFound", f"Invalid rev id: {unquote(branch)}")
        return json_response({})

    @route("POST", f"{API}/tag/(?P<revision>[^/]+)")
    def create_tag(self, request: Request, kind: str, repo_id: str, revision: str) -> Response:
        repo = self.repo(request, kind, repo_id, write=True)
        tag = request.json()["tag"]
        with self.lock:
            if tag in repo.tags:
                raise HttpError(409, "Tag reference exists already")
            repo.tags[tag] = repo.resolve(unquote(revision)).sha
        return json_response({})

    @route("DELETE", f"{API}/tag/(?P<tag>[^/]+)")
    def delete_tag(self, request: Request, kind: str, repo_id: str, tag: str) -> Response:
        repo = self.repo(request, kind, repo_id, write=True)
        if repo.tags.pop(unquote(tag), None) is None:
            raise not_found("RevisionNotFound", f"Invalid rev id: {unquote(tag)}")
        return json_response({})

    @route("POST", f"{API}/preupload/(?P<revision>[^/]+)")
    def preupload(self, request: Request, kind: str, repo_id: str, revision: str) -> Response:
        repo = self.repo(request, kind, repo_id, write=True)
        commit, body = repo.resolve(unquote(revision)), request.json()
        files = []
        for file in body["files"]:
            path, present = file["path"], commit.entries.get(file["path"])
            info = {
                "path": path,
                "uploadMode": "lfs" if repo.goes_to_lfs(commit, path, file["size"]) else "regular",
                "shouldIgnore": repo.is_ignored(commit, path, body.get("gitIgnore")),
            }
            files.append(info if present is None else {**info, "oid": present.etag})
        return json_response({"files": files, "commitOid": commit.sha})

    @route("POST", f"{API}/commit/(?P<revision>[^/]+)")
    def create_commit(self, request: Request, kind: str, repo_id: str, revision: str) -> Response:
        repo, branch = self.repo(request, kind, repo_id, write=True), unquote(revision)
        lines = [json.loads(line) for line in request.body.splitlines() if line.strip()]
        if not lines or lines[0]["key"] != "header":
            raise HttpError(400, "The first line of a commit must be its header")
        header = lines[0]["value"]
        with self.lock:
            head = repo.resolve(branch)
            if branch not in repo.branches:
                raise HttpError(400, f"Invalid reference for a branch: {branch}")
            if header.get("parentCommit") not in (None, head.sha):
                raise HttpError(412, "A commit has happened since. Please refresh and try again.")
            entries = dict(head.entries)
            for line in lines[1:]:
                self._apply(repo, head, entries, line["key"], line["value"])
            for entry in entries.values():
                if entry.lfs and entry.sha256 in repo.lfs:
                    repo.store(entry.sha256, entry.path, f"refs/heads/{branch}")
            commit = repo.commit(head.sha, header["summary"], header.get("description", ""), entries)
            repo.branches[branch] = commit.sha
        url = f"{self.repo_url(kind, repo.id)}/commit/{commit.sha}"
        answer = {"success": True, "commitOid": commit.sha, "commitUrl": url, "hookOutput": ""}
        return json_response({**answer, "pullRequestUrl": None})

    @route("POST", f"{API}/super-squash/(?P<branch>[^/]+)")
    def super_squash(self, request: Request, kind: str, repo_id: str, branch: str) -> Response:
        repo = self.repo(request, kind, repo_id, write=True)
        with self.lock:
            head = repo.resolve(unquote(branch))
            if unquote(branch) not in repo.branches:
                raise HttpError(400, f"Invalid reference for a branch: {unquote(branch)}")
            squashed = repo.commit(None, request.json()["message"], "", head.entries)
            repo.branches[unquote(branch)] = squashed.sha
        return json_response({})

    @route("GET", f"{API}/lfs-files")
    def list_lfs_files(self, request: Request, kind: str, repo_id: str) -> Response:
        """All stored contents, with or without references to them. Deleting a branch or a pointer frees nothing.

        Source: `list_lfs_files` and `permanently_delete_lfs_files` of huggingface_hub;
        huggingface.co/docs/hub/storage-limits, "Deleting only LFS pointers doesn't free up space".
        """
        repo = self.repo(request, kind, repo_id, write=True)
        return self._page(
            request,
            [
                {"fileOid": one.file_oid, "oid": one.oid, "filename": one.filename, "size": one.size,
                 "pushedAt": one.pushed_at, **({"ref": one.ref} if one.ref else {})}
                for one in repo.lfs.values()
            ],
        )  # fmt: skip

    @route("POST", f"{API}/lfs-files/batch")
    def delete_lfs_files(self, request: Request, kind: str, repo_id: str) -> Response:
        """Delete contents, even referenced ones; commits with references to them cannot be downloaded any more."""
        repo = self.repo(request, kind, repo_id, write=True)
        deletions = request.json()["deletions"]
        if deletions["rewriteHistory"]:
            raise HttpError(501, "this Hub does not rewrite history")
        with self.lock:
            for one in [one for one in repo.lfs.values() if one.file_oid in deletions["sha"]]:
                del repo.lfs[one.oid]
                if not any(one.oid in other.lfs for other in self.repos.values()):
                    self.blobs.delete(one.oid)
        return json_response({})

    def _apply(self, repo: Repo, head: Commit, entries: dict[str, Entry], key: str, value: dict[str, Any]) -> None:
        path = value["path"]
        refused = "Your push was rejected because"
        if key == "file":
            content = base64.b64decode(value["content"])
            if content and repo.goes_to_lfs(head, path, len(content)):
                reason = "larger than 10 MiB" if len(content) > REGULAR_LIMIT else "to be stored in LFS"
                raise HttpError(400, f"{refused} it contains files {reason}. Offending files: - {path}")
            entries[path] = repo.regular(path, content)
        elif key == "lfsFile":
            if value["oid"] not in repo.lfs:
                missing = "an LFS pointer pointed to a file that does not exist"
                raise HttpError(400, f"{refused} {missing}. Offending file: - {path}")
            entries[path] = repo.large(path, value["oid"])
        elif key == "deletedFile":
            if entries.pop(path, None) is None:
                raise not_found("EntryNotFound", f"A file with this name doesn't exist: {path}")
        elif key == "deletedFolder":
            inside = [name for name in entries if name.startswith(path.rstrip("/") + "/")]
            if not inside:
                raise not_found("EntryNotFound", f"A folder with this name doesn't exist: {path}")
            for name in inside:
                del entries[name]
        else:
            raise HttpError(400, f"Unknown operation in commit: {key}")

    def _page(self, request: Request, items: list[dict[str, Any]]) -> Response:
        """One page of a listing, with the `Link` to the next."""
        start = int(request.query.get("cursor", ["0"])[0])
        stop = start + int(request.query.get("limit", [str(self.page_size)])[0])
        headers = {}
        if stop < len(items):
            query = urlencode({**{k: v[0] for k, v in request.query.items()}, "cursor": stop})
            origin = self.repo_url("model", "").rstrip("/")
            headers["Link"] = f'<{origin}{quote(request.path, safe="/%")}?{query}>; rel="next"'
        return json_response(items[start:stop], headers=headers)
