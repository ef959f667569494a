"""`chexvision credentials` and `doctor`, with the real clients."""

from __future__ import annotations

import io
import json
import os
import pty
import subprocess
import sys
from contextlib import suppress
from datetime import timedelta
from pathlib import Path

import pytest

from chexvision.hub.account import NEW_TOKEN_PAGE
from chexvision_dispatch import run_records as records
from tests.dispatch.standin import Cli
from tests.fakes.hub import FakeHub
from tests.fakes.kaggle import FakeKaggle
from tests.runs.conftest import DISPATCH, end_epochs

pytestmark = pytest.mark.usefixtures("packs_stand_in")
REF = "chex/chexvision-hub-token"
OAUTH = "hf_oauth_eyJhbGciOiJFZERTQSJ9.x"
SCOPED = "hf_of_one_repository"


def test_synced_token_reaches_the_next_session_and_can_be_removed(
    cli: Cli, kaggle: FakeKaggle, fake_hub: FakeHub, gate: object, tmp_path: object
) -> None:
    kaggle.session_secrets = {}
    made = cli("credentials", "sync", "--yes")
    assert made.code == 0, made.err
    assert f"created the private dataset {REF}" in made.out
    dataset = kaggle.datasets.known[REF]
    assert dataset.private
    assert (dataset.folder / "hf_token.txt").read_text() == "hf_right\n"
    assert f"updated the private dataset {REF}" in cli("credentials", "sync", "--yes").out
    shown = cli("credentials", "status")
    assert f"yes Kaggle token dataset       {REF}, private, ready" in shown.out
    end_epochs(gate, 1, 2, 3)  # type: ignore[arg-type]
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


@pytest.fixture
def oauth(fake_hub: FakeHub, monkeypatch: pytest.MonkeyPatch) -> None:
    """This machine has an OAuth login, and a separate token for one repository."""
    fake_hub.add_token(OAUTH, "oauth")
    fake_hub.add_token(SCOPED, "fineGrained", {"model/chex/model": ["repo.content.read", "repo.write"]})
    monkeypatch.setenv("HF_TOKEN", OAUTH)


@pytest.mark.usefixtures("oauth")
def test_oauth_token_is_not_copied_and_the_steps_to_a_session_token_are_shown(cli: Cli, kaggle: FakeKaggle) -> None:
    refused = cli("credentials", "sync", "--yes")
    assert refused.code == 1
    assert "of chex, from a browser login (OAuth), which expires after 30 days" in refused.err
    assert NEW_TOKEN_PAGE in refused.err
    assert "--token-file" in refused.err
    assert kaggle.datasets.known == {}
    shown = cli("credentials", "status")
    assert "yes Hub token of this machine  of chex, from a browser login (OAuth); not for sessions" in shown.out
    assert OAUTH not in refused.out + refused.err + shown.out + shown.err


@pytest.mark.usefixtures("oauth")
def test_session_token_comes_from_a_file_or_from_standard_input(
    cli: Cli, kaggle: FakeKaggle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "token").write_text(f"  {SCOPED}\n")
    done = cli("credentials", "sync", "--yes", "--token-file", str(tmp_path / "token"))
    assert done.code == 0, done.err
    assert (kaggle.datasets.known[REF].folder / "hf_token.txt").read_text() == f"{SCOPED}\n"
    monkeypatch.setattr("sys.stdin", io.StringIO("hf_right\n"))
    assert cli("credentials", "sync", "--yes", "--token-file", "-").code == 0
    assert (kaggle.datasets.known[REF].folder / "hf_token.txt").read_text() == "hf_right\n"


@pytest.mark.usefixtures("oauth")
@pytest.mark.parametrize(
    ("held", "code", "message"),
    [
        (OAUTH, 1, "the token from the file {} is of chex, from a browser login"),
        ("hf_unknown", 1, "the Hub does not accept the token from the file {} (wrong or expired); make another one"),
        ("two words", 2, "the input from the file {} is not just a Hub token"),
        ("", 2, "the input from the file {} is not just a Hub token"),
        (None, 2, "--token-file {}: No such file or directory"),
    ],
)
def test_file_that_holds_no_token_for_sessions_is_refused(
    cli: Cli, kaggle: FakeKaggle, tmp_path: Path, held: str | None, code: int, message: str
) -> None:
    file = tmp_path / "token"
    if held is not None:
        file.write_text(held)
    refused = cli("credentials", "sync", "--yes", "--token-file", str(file))
    assert refused.code == code
    assert message.format(file) in refused.err
    assert held is None or len(held) < 9 or held not in refused.err
    assert kaggle.datasets.known == {}


def test_token_from_standard_input_needs_the_yes_option(cli: Cli, kaggle: FakeKaggle) -> None:
    refused = cli("credentials", "sync", "--token-file", "-")
    assert refused.code == 2
    assert "add --yes" in refused.err


@pytest.mark.usefixtures("oauth")
def test_session_token_is_typed_without_echo(checkout: Path, kaggle: FakeKaggle) -> None:
    env = kaggle.subprocess_env()
    env["PYTHONPATH"] = os.pathsep.join([str(checkout / "src"), str(checkout / "dispatch"), env["PYTHONPATH"]])
    start = (
        "import fcntl, sys, termios; fcntl.ioctl(0, termios.TIOCSCTTY, 0)\n"
        "from chexvision.cli import main; main(sys.argv[1:])"
    )
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-c", start, "credentials", "sync", "--yes"],
        env=env, stdin=theirs, stdout=theirs, stderr=theirs, start_new_session=True,
    )  # fmt: skip
    os.close(theirs)
    seen = ""
    with suppress(OSError):  # as a terminal closes
        while piece := os.read(ours, 4096).decode():
            seen += piece
            if "token: " in seen and "created" not in seen and SCOPED not in seen and not seen.endswith("\n"):
                os.write(ours, f"{SCOPED}\n".encode())
    os.close(ours)
    assert process.wait(300) == 0, seen
    assert NEW_TOKEN_PAGE in seen
    assert SCOPED not in seen
    assert (kaggle.datasets.known[REF].folder / "hf_token.txt").read_text() == f"{SCOPED}\n"


@pytest.mark.usefixtures("oauth")
def test_oauth_login_with_a_token_for_one_private_repository_end_to_end(
    cli: Cli, kaggle: FakeKaggle, fake_hub: FakeHub, gate: Path, tmp_path: Path
) -> None:
    kaggle.session_secrets = {}
    (tmp_path / "token").write_text(SCOPED)
    assert cli("credentials", "sync", "--yes", "--token-file", str(tmp_path / "token")).code == 0
    end_epochs(gate, 1, 2, 3)
    dispatched = cli(*DISPATCH, "--to", "chex/model", "--private")
    assert dispatched.code == 0, dispatched.err
    session = kaggle.sessions[0].wait()
    assert session.status == "COMPLETE", session.text
    run_id = records.find(None).run_id
    assert list(fake_hub.tags("chex/model")) == [run_id]
    assert fake_hub.is_private("chex/model")
    weights = len(fake_hub.read("chex/model", "model.safetensors"))
    assert fake_hub.stored_bytes("chex/model") == weights  # nothing is left of the states
    assert fake_hub.read("chex/model", "progress.json", f"run/{run_id}")
    assert cli("runs", "wait").code == 0
    assert OAUTH not in session.text + dispatched.out
    assert not any(OAUTH.encode() in body.data for body in kaggle.bodies)


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
    assert "is public and must not contain a token" in refused.err
    assert "is PUBLIC" in cli("credentials", "status").out


def test_without_confirmation_nothing_is_sent(cli: Cli, kaggle: FakeKaggle, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO(""))
    refused = cli("credentials", "sync")
    assert refused.code == 2
    assert "add --yes" in refused.err
    assert kaggle.datasets.known == {}


def test_doctor_passes_if_everything_is_set_up(cli: Cli, kaggle: FakeKaggle, fake_hub: FakeHub) -> None:
    from huggingface_hub import HfApi

    from chexvision.recipes import load_recipe

    repo_id, _, sha = str(load_recipe("densenet").data.dataset).partition("@")
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
    assert "check the name" in missing["dataset"]
