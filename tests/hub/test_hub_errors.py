"""The user-visible message for each error of the Hub client."""

from __future__ import annotations

import errno
import re
from collections.abc import Callable

import pytest
from huggingface_hub import HfApi, constants, hf_hub_download
from huggingface_hub.errors import GatedRepoError

from chexvision.errors import ChexError
from chexvision.hub.hub_errors import NotAllowed, Unreachable, call_hub, hub_error
from chexvision.hub.reference import RepoRef
from tests.fakes.faults import Fault
from tests.fakes.hub import FakeHub

REPO = "chex/model"
SHA = "0" * 40


def failure(call: Callable[[], object], repo_id: str = REPO, revision: str | None = None) -> ChexError:
    with pytest.raises(ChexError) as raised:
        call_hub(call, "reading the tags", RepoRef(repo_id, revision))
    return raised.value


@pytest.fixture
def repo(fake_hub: FakeHub, waits: list[float]) -> FakeHub:
    HfApi().create_repo(REPO, private=True)
    return fake_hub


def test_missing_and_hidden_repositories_get_the_same_message(repo: FakeHub, monkeypatch: pytest.MonkeyPatch) -> None:
    missing = failure(lambda: HfApi().repo_info("chex/none"), "chex/none")
    assert str(missing).startswith("the Hub has no model chex/none, or hides it from you; check the name")
    monkeypatch.delenv("HF_TOKEN")
    hidden = failure(lambda: HfApi(token=False).repo_info(REPO))
    assert str(hidden) == str(missing).replace("chex/none", REPO)


@pytest.mark.parametrize("token", ["hf_wrong", "hf_expired"])
def test_a_rejected_token_is_not_reported_as_a_missing_repository(repo: FakeHub, token: str) -> None:
    if token == "hf_expired":  # for which the client raises RepositoryNotFoundError
        expired = Fault("status", code=401, headers={"X-Error-Code": "RepoNotFound"}, message="the token is expired")
        repo.faults.add("GET /api/models", expired)
    refused = failure(lambda: HfApi(token=token).repo_info(REPO))
    assert isinstance(refused, NotAllowed)
    assert str(refused).startswith("the Hub does not accept the token (wrong or expired); log in again")


def test_a_missing_revision_names_the_page_that_lists_revisions(repo: FakeHub) -> None:
    missing = failure(lambda: HfApi().repo_info(REPO, revision="v9"), revision="v9")
    assert str(missing) == (
        f"model {REPO} has no revision v9; they are listed on https://huggingface.co/{REPO}/commits/main"
    )


def test_a_missing_file_is_reported_with_the_attempted_action(repo: FakeHub) -> None:
    missing = failure(lambda: hf_hub_download(REPO, "none.json"))
    assert str(missing).startswith(f"model {REPO} has no such file (reading the tags)")


def test_a_gated_repository_gets_advice_to_accept_its_terms() -> None:
    class Gated(GatedRepoError):
        def __init__(self) -> None: ...

    error = hub_error(Gated(), "reading the tags", RepoRef("a/b"), "dataset")
    assert "dataset a/b is gated: accept its terms on https://huggingface.co/datasets/a/b" in str(error)


@pytest.mark.parametrize(
    ("code", "message", "expected"),
    [
        (
            403,
            "You don't have the rights",
            "does not let the token do that .*403.*, on reading the tags",
        ),
        (403, "Private repository storage limit reached", "the account's quota is used up .*settings/billing"),
        (402, "Pre-paid credit balance is insufficient", "the account's quota is used up .*settings/billing"),
        (503, "maintenance", "reading the tags of chex/model failed, the Hub did not answer .*503.*try again later"),
        (400, "odd", "the Hub failed on reading the tags of chex/model: .*400"),
    ],
)
def test_refusals_are_one_line_errors_with_a_next_step(repo: FakeHub, code: int, message: str, expected: str) -> None:
    repo.faults.add("GET /api/models", Fault.status(code, message=message), times=99)
    raised = failure(lambda: HfApi().repo_info(REPO))
    assert re.search(expected, str(raised)), raised
    assert "\n" not in str(raised)
    assert isinstance(raised, Unreachable) is (code == 503)


def test_uncached_files_are_reported_offline(repo: FakeHub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    raised = failure(lambda: hf_hub_download(REPO, "config.json"))
    assert isinstance(raised, Unreachable)
    assert "is not complete in the cache" in str(raised) and "HF_HUB_OFFLINE is set" in str(raised)


def test_a_full_disk_names_the_cache_and_own_errors_pass_through() -> None:
    assert "is full; free some space, or set HF_HOME" in str(hub_error(OSError(errno.ENOSPC, "full"), "x"))
    own = ChexError("ours")
    assert hub_error(own, "x") is own
