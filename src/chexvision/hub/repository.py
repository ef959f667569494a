"""A repository on the Hub: created where it is missing, and the commit that a revision of it names."""

from __future__ import annotations

from chexvision.hub.hub_errors import NotAllowed, NotPrivate, RepoType, call_hub
from chexvision.hub.reference import RepoRef
from chexvision.retry import status_of


def create_repository(
    repo_id: str, repo_type: RepoType, *, token: str | None = None, private: bool = False, sdk: str | None = None
) -> None:
    """Create a repository unless it exists.

    Args:
        repo_id: ``USER/NAME``.
        repo_type: of the repository.
        token: of the Hub; the user's own where left out.
        private: whether only its owner can see it. The visibility of one that exists is never changed.
        sdk: of a Space: "static", "gradio" or "docker".

    Raises:
        NotAllowed: the token may not create it.
        NotPrivate: it exists, public, and was to be private.
        ChexError: the Hub does not answer.
    """
    from huggingface_hub import HfApi

    api, repo = HfApi(token=token), RepoRef(repo_id)
    try:
        call_hub(
            lambda: api.create_repo(
                repo_id, repo_type=repo_type, private=private or None, exist_ok=True, space_sdk=sdk
            ),
            "creating the repository",
            repo,
            repo_type,
        )
    except NotAllowed as error:
        if status_of(error) != 403:
            raise
        page = "new" if repo_type == "model" else f"new-{repo_type}"
        raise NotAllowed(
            f"the token may not create {repo_id} (HTTP 403), which does not exist or is hidden from it; a token for "
            f"single repositories cannot: create it on https://huggingface.co/{page} first"
        ) from error
    if private and not call_hub(
        lambda: api.repo_info(repo_id, repo_type=repo_type).private, "reading the visibility", repo, repo_type
    ):
        raise NotPrivate(
            f"{repo_id} exists and is public, --private does not change that, and nothing was sent to it; make it "
            "private on its page, or choose another name"
        )


def resolve_revision(reference: RepoRef, repo_type: RepoType, *, attempts: int = 3) -> RepoRef:
    """The same repository at the commit that its revision, or its main branch, names now.

    Args:
        reference: a pinned one is confirmed.
        repo_type: of the repository.
        attempts: how often to ask; the client has waited half a minute each time already.

    Raises:
        ChexError: see `chexvision.hub.hub_errors.hub_error`.
    """
    from huggingface_hub import HfApi

    info = call_hub(
        lambda: HfApi().repo_info(reference.repo_id, revision=reference.revision, repo_type=repo_type),
        "looking up the commit",
        reference,
        repo_type,
        attempts=attempts,
    )
    return RepoRef(reference.repo_id, info.sha)
