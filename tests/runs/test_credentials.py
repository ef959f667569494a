"""`chexvision credentials` and `doctor`, with the real clients."""

from __future__ import annotations

import io
import json
from datetime import timedelta

import pytest

from chexvision_dispatch import records
from tests.dispatch.standin import Cli
from tests.fakes.hub import FakeHub
from tests.fakes.kaggle import FakeKaggle
from tests.runs.conftest import DISPATCH, let

pytestmark = pytest.mark.usefixtures("packs_stand_in")
REF = "chex/chexvision-hub-token"


def test_synced_token_reaches_the_next_session_and_is_forgotten_again(
    cli: Cli, kaggle: FakeKaggle, fake_hub: FakeHub, gate: object, tmp_path: object
) -> None:
    kaggle.session_secrets = {}
    made = cli("credentials", "sync", "--yes")
    assert made.code == 0, made.err
    assert f"made the private dataset {REF}" in made.out
    dataset = kaggle.datasets.known[REF]
    assert dataset.private
    assert (dataset.folder / "hf_token.txt").read_text() == "hf_right\n"
    assert f"updated the private dataset {REF}" in cli("credentials", "sync", "--yes").out
    shown = cli("credentials", "status")
    assert f"yes Kaggle token dataset       {REF}, private, ready" in shown.out
    let(gate, 1, 2, 3)  # type: ignore[arg-type]
    cli(*DISPATCH, "--to", "chex/model")
    session = kaggle.sessions[0].wait()
    assert "Hub token: from the attached file" in session.text
    assert fake_hub.tags("chex/model")
    assert f"deleted {REF}" in cli("credentials", "forget", "--yes").out
    assert REF not in kaggle.datasets.known
    assert "there was none" in cli("credentials", "forget", "--yes").out
    assert "hf_right" not in made.out + made.err + shown.out + session.text
    state = records.runs_dir().parent
    assert not any(b"hf_right" in path.read_bytes() for path in state.rglob("*") if path.is_file())


def test_token_that_may_not_write_is_not_sent(
    cli: Cli, kaggle: FakeKaggle, fake_hub: FakeHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake_hub.add_token("hf_reads", "fineGrained", {"model/chex/x": ["repo.content.read"]})
    monkeypatch.setenv("HF_TOKEN", "hf_reads")
    refused = cli("credentials", "sync", "--yes")
    assert refused.code == 1
    assert "fine-grained, may write to nothing" in refused.err
    assert kaggle.datasets.known == {}


def test_expired_token_is_named_without_its_value(
    cli: Cli, kaggle: FakeKaggle, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_expired")
    shown = cli("credentials", "status", "--json")
    hub = json.loads(shown.out)[0]
    assert hub["works"] is False
    assert "does not accept this machine's token (wrong or expired)" in hub["note"]
    assert "hf_expired" not in shown.out + shown.err


def test_public_dataset_of_that_name_gets_no_token(cli: Cli, kaggle: FakeKaggle, gate: object) -> None:
    kaggle.add_dataset(REF, gate)  # type: ignore[arg-type]
    refused = cli("credentials", "sync", "--yes")
    assert refused.code == 1
    assert "is public, a token must not go there" in refused.err
    assert "is PUBLIC" in cli("credentials", "status").out


def test_without_an_answer_nothing_is_sent(cli: Cli, kaggle: FakeKaggle, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO(""))
    refused = cli("credentials", "sync")
    assert refused.code == 2
    assert "add --yes" in refused.err
    assert kaggle.datasets.known == {}


def test_doctor_finds_everything_in_order(cli: Cli, kaggle: FakeKaggle, fake_hub: FakeHub) -> None:
    from huggingface_hub import HfApi

    from chexvision.recipes import load_recipe

    repo_id, _, sha = load_recipe("densenet").data.dataset.partition("@")
    fake_hub.user = repo_id.split("/")[0]
    HfApi().create_repo(repo_id, repo_type="dataset")
    repo = fake_hub.repos["dataset", repo_id]
    repo.commits[sha] = repo.commits[repo.branches["main"]]
    result = cli("doctor")
    assert result.code == 0, result.out
    assert "logged in as chex, 30.0 of 30 GPU hours left" in result.out
    assert "MISSING" not in result.out
    assert "phone" not in result.out
    kaggle.phone_verified = False
    assert "chex has never run a session with a GPU: until a phone number is verified at" in cli("doctor").out


def test_doctor_names_what_is_missing_and_exits_with_1(cli: Cli, kaggle: FakeKaggle) -> None:
    kaggle.gpu_time_used = timedelta(hours=30)
    result = cli("doctor", "--json")
    assert result.code == 1
    missing = {one["name"]: one["note"] for one in json.loads(result.out) if one["needed"] and not one["ok"]}
    assert set(missing) == {"Kaggle", "dataset"}
    assert "refreshed 2030-01-05 00:00 UTC" in missing["Kaggle"]
    assert "look at its name" in missing["dataset"]
