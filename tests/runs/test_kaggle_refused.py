"""What Kaggle or the Hub refuses, before and while a session runs, with the real clients."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest
from huggingface_hub import HfApi

from chexvision_dispatch import run_records as records
from tests.dispatch.standin import Cli, raised
from tests.fakes.hub import FakeHub
from tests.fakes.kaggle import FakeKaggle
from tests.runs.conftest import DISPATCH, end_epochs

pytestmark = pytest.mark.usefixtures("packs_stand_in")
TO = ["--to", "chex/model"]


def test_read_only_token_ends_the_session_before_the_first_epoch(
    cli: Cli, kaggle: FakeKaggle, fake_hub: FakeHub
) -> None:
    fake_hub.add_token("hf_reads", "read")
    kaggle.session_secrets = {"HF_TOKEN": "hf_reads"}
    cli(*DISPATCH, *TO)
    text = kaggle.sessions[0].wait().text
    assert "does not let the token do that (HTTP 403" in text
    assert "epoch 1" not in text
    failed = cli("runs", "status").out
    assert "status failed" in failed
    assert "https://huggingface.co/settings/tokens" in failed


def test_session_without_gpu_and_internet_fails_with_advice(cli: Cli, kaggle: FakeKaggle) -> None:
    kaggle.phone_verified = False
    sent = cli(*DISPATCH, *TO)
    assert "note   chex has never run a session with a GPU" in sent.out
    waited = cli("runs", "wait")
    assert waited.code == 1
    (line,) = [line for line in waited.err.splitlines() if "is failed" in line]
    assert "Kaggle started this session with no GPU and no internet" in line
    assert "verify your phone number at https://www.kaggle.com/settings" in line
    assert "epoch 1" not in kaggle.sessions[0].text


@pytest.mark.parametrize(
    ("trouble", "message"),
    [
        ("sessions", "two sessions run already"),
        ("title", "the kernel's name is taken"),
        ("quota", "the week's GPU hours are used up"),
    ],
)
def test_refusals_are_distinguished(cli: Cli, kaggle: FakeKaggle, trouble: str, message: str) -> None:
    class Any_(frozenset[str]):
        def __contains__(self, title: object) -> bool:
            return True

    if trouble == "sessions":
        kaggle.max_gpu_sessions = 0
    elif trouble == "title":
        kaggle.taken_titles = Any_()
    else:
        kaggle.gpu_time_allowed = kaggle.gpu_time_used
    result = cli(*DISPATCH, *TO, "--force")
    assert result.code == 1
    assert message in result.err
    assert "Traceback" not in result.err


def test_destination_is_created_last_and_not_by_a_dry_run(cli: Cli, kaggle: FakeKaggle, fake_hub: FakeHub) -> None:
    assert cli(*DISPATCH, *TO, "--private", "--dry-run").code == 0
    kaggle.gpu_time_used = kaggle.gpu_time_allowed
    assert cli(*DISPATCH, *TO, "--private").code == 1
    assert ("model", "chex/model") not in fake_hub.repos
    kaggle.gpu_time_used = timedelta()
    assert cli(*DISPATCH, *TO, "--private").code == 0
    assert fake_hub.is_private("chex/model")


def test_private_run_is_not_sent_to_a_public_repository(cli: Cli, kaggle: FakeKaggle, fake_hub: FakeHub) -> None:
    HfApi().create_repo("chex/model")
    refused = cli(*DISPATCH, *TO, "--private")
    assert refused.code == 1
    assert "chex/model exists and is public" in refused.err
    assert kaggle.sessions == []
    assert records.every(raised) == []
    assert not list(records.runs_dir().rglob("script.py"))


def test_private_folder_is_refused(cli: Cli, kaggle: FakeKaggle, shards: Path) -> None:
    refused = cli(
        "dispatch", "--model", "densenet", "--on", "local", "--data", str(shards), "--to", "./out", "--private"
    )
    assert refused.code == 2
    assert "--private is for a repository on the Hub" in refused.err


def test_destination_is_left_to_the_session_if_the_local_token_may_not_create_it(
    cli: Cli, kaggle: FakeKaggle, fake_hub: FakeHub, gate: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake_hub.add_token("hf_reads", "read")
    monkeypatch.setenv("HF_TOKEN", "hf_reads")
    dispatched = cli(*DISPATCH, *TO)
    assert dispatched.code == 0, dispatched.err
    assert "note   on this machine the token may not create chex/model (HTTP 403)" in dispatched.out
    end_epochs(gate, 1, 2, 3)
    assert kaggle.sessions[0].wait().status == "COMPLETE"
    assert list(fake_hub.tags("chex/model")) == [records.find(None).run_id]


def test_session_with_a_token_for_another_repository_fails_with_advice(
    cli: Cli, kaggle: FakeKaggle, fake_hub: FakeHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake_hub.add_token("hf_scoped", "fineGrained", {"model/chex/model": ["repo.write"]})
    kaggle.session_secrets = {"HF_TOKEN": "hf_scoped"}
    monkeypatch.delenv("HF_TOKEN")
    cli(*DISPATCH, *TO)
    text = kaggle.sessions[0].wait().text
    assert "the token may not create chex/model (HTTP 403)" in text
    assert "create it on https://huggingface.co/new first" in text
    assert "epoch 1" not in text
