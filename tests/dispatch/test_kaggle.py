"""The real `kaggle` client against a fake Kaggle on the loopback that runs pushed kernels."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from chexvision_dispatch import run_records as records
from chexvision_dispatch.targets.kaggle import Kaggle, KaggleOptions
from chexvision_dispatch.targets.target import NotAsRequested
from tests.dispatch.measured import measured_artifact, published_run
from tests.dispatch.standin import RECORD, Cli, Result
from tests.fakes.faults import Fault
from tests.fakes.hub import FakeHub
from tests.fakes.kaggle import FakeKaggle

SHA = "44443e6ee968b3c6094b63f14a27698c40b50680"
PUSH = ["dispatch", "--model", "densenet", "--data", f"chex/xrays@{SHA}"]

pytestmark = pytest.mark.usefixtures("packs_stand_in")


@pytest.fixture
def kaggle(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fake_hub: FakeHub) -> Iterator[FakeKaggle]:
    monkeypatch.setattr("chexvision_dispatch.targets.kaggle_sessions.POLLS", (0.0, 0.0))
    fake_hub.add_token("hf_secret", "write")
    fake_hub.add_token("hf_attached", "write")
    fake_hub.add_dataset_at("chex/xrays", SHA)
    secrets = {"HF_TOKEN": "hf_secret"}
    with FakeKaggle(tmp_path / "kaggle", dataset_polls=0, secrets=secrets, session_env=fake_hub.env) as fake:
        fake.environment(monkeypatch)
        yield fake


@pytest.fixture
def token_dataset(kaggle: FakeKaggle, tmp_path: Path) -> str:
    (tmp_path / "token").mkdir()
    (tmp_path / "token" / "hf_token.txt").write_text("hf_attached\n")
    kaggle.add_dataset("chex/hub-token", tmp_path / "token")
    return "chex/hub-token"


def assert_nothing_left(result: Result) -> None:
    assert result.code == 1
    assert result.err.splitlines()[-1].startswith("error: ")
    assert "Traceback" not in result.err
    assert not records.runs_dir().exists() or list(records.runs_dir().iterdir()) == []


def test_a_pushed_kernel_runs_and_the_run_is_recorded(cli: Cli, kaggle: FakeKaggle) -> None:
    result = cli(*PUSH, "--timeout-hours", "2.5")
    assert result.code == 0, result.err
    (session,) = kaggle.sessions
    session.wait()
    assert session.status == "COMPLETE", session.text
    assert session.outputs() == ["artifact/seen.json"]
    assert session.request["sessionTimeoutSeconds"] == 9000
    assert session.request["machineShape"] == "NvidiaTeslaT4"
    assert session.request["isPrivate"] is True
    assert session.request["enableInternet"] is True
    (path,) = records.runs_dir().glob("*.json")
    record = records.load(path.stem)
    assert record.data == f"chex/xrays@{SHA}"
    assert record.sessions[0].handle == session.ref == f"chex/chexvision-{record.run_id}"
    assert f"page   https://www.kaggle.com/code/{session.ref}" in result.out
    assert f"run    {record.run_id}" in result.out
    assert Path(record.folder, "script.py").read_text() == session.request["text"]


def test_session_takes_the_token_of_kaggles_secrets(cli: Cli, kaggle: FakeKaggle) -> None:
    cli(*PUSH, "--to", "chex/model")
    text = kaggle.sessions[0].wait().text
    assert "Hub token: from Kaggle's secret HF_TOKEN" in text
    assert "token is ***" in text
    assert "hf_secret" not in text


@pytest.mark.parametrize(
    ("nested", "organizations"), [(False, ()), (True, ()), (True, ("chex",))], ids=["flat", "owner", "organization"]
)
def test_session_takes_the_token_of_the_attached_dataset(
    cli: Cli, kaggle: FakeKaggle, token_dataset: str, nested: bool, organizations: tuple[str, ...]
) -> None:
    kaggle.session_secrets, kaggle.nested_inputs = {}, nested
    kaggle.organizations = frozenset(organizations)
    result = cli(*PUSH, "--to", "chex/model", "--token-dataset", token_dataset)
    assert "no --token-dataset" not in result.out
    text = kaggle.sessions[0].wait().text
    assert "Hub token: from the attached file" in text
    assert "token is ***" in text


def test_session_without_a_token_still_trains(cli: Cli, kaggle: FakeKaggle) -> None:
    kaggle.session_secrets = {}
    result = cli(*PUSH, "--to", "chex/model")
    assert "note   no --token-dataset: the session has no Hub token" in result.out
    session = kaggle.sessions[0].wait()
    assert "WARNING: no Hub token in this session: nothing is sent to chex/model" in session.text
    assert session.outputs() == ["artifact/seen.json"]


def test_refused_push_fails_with_kaggles_message(cli: Cli, kaggle: FakeKaggle) -> None:
    kaggle.max_gpu_sessions = 0
    result = cli(*PUSH)
    assert "Maximum batch GPU session count of 0 reached; two sessions run already; wait for one" in result.err
    assert_nothing_left(result)


@pytest.mark.parametrize(
    ("code", "message", "expected"),
    [
        (
            400,
            "The kernel source must be less than 1 megabytes in size.",
            "HTTP 400 (The kernel source must be less than 1 megabytes in size) and refused the push; make the "
            "largest files of src, configs and kernels smaller",
        ),
        (
            400,
            "Maximum batch GPU session count of 2 reached.",
            "of 2 reached) and refused the push; two sessions run",
        ),
        (403, "Permission 'kernels.update' was denied", "HTTP 403 (Permission 'kernels.update' was denied)"),
        (404, "Docker image not found", "HTTP 404 (Docker image not found) and refused the push; check its name"),
        (422, "Bad\nshape\x1b[2J", "HTTP 422 (Bad shape [2J) and refused the push; change that, then try again"),
        (422, "x" * 5000, f"HTTP 422 ({'x' * 300}) and refused"),
    ],
)
def test_refusal_quotes_kaggles_reason(cli: Cli, kaggle: FakeKaggle, code: int, message: str, expected: str) -> None:
    kaggle.faults.add("SaveKernel", Fault.status(code, message=message))
    result = cli(*PUSH)
    assert expected in result.err
    assert len(result.err.splitlines()) == 1
    assert_nothing_left(result)


def test_account_without_earlier_gpu_sessions_is_warned_about_phone_verification(
    cli: Cli, kaggle: FakeKaggle
) -> None:
    assert "phone" not in cli(*PUSH).out
    kaggle.phone_verified = False
    result = cli(*PUSH)
    assert result.code == 0, result.err
    (note,) = [line for line in result.out.splitlines() if "phone" in line]
    assert note.startswith("note   chex has never run a session with a GPU: until a phone number is verified at ")
    assert "30.0 of 30 GPU hours left" in result.out


def test_session_without_the_gpu_and_internet_it_requested_ends_before_anything_else(
    cli: Cli, kaggle: FakeKaggle
) -> None:
    kaggle.phone_verified = False
    cli(*PUSH)
    session = kaggle.sessions[0].wait()
    assert session.exit_code == 1
    # Not necessarily the last line: stdout and stderr are read by separate threads.
    error = "error: Kaggle started this session with no GPU and no internet, though it requested GPU and internet"
    assert any(line.startswith(error) for line in session.text.splitlines())
    assert "verify your phone number at https://www.kaggle.com/settings" in session.text
    assert session.outputs() == []
    assert list((session.folder / "kaggle" / "tmp").iterdir()) == []


def test_remaining_quota_excludes_running_sessions_and_names_its_refresh_time(cli: Cli, kaggle: FakeKaggle) -> None:
    kaggle.gpu_time_used, kaggle.gpu_time_reserved = timedelta(hours=3), timedelta(hours=24, minutes=30)
    assert "Kaggle quota: 2.5 of 30 GPU hours left, refreshed 2030-01-05 00:00 UTC" in cli(*PUSH).out


def test_insufficient_quota_is_a_warning_if_nothing_was_measured(cli: Cli, kaggle: FakeKaggle) -> None:
    kaggle.gpu_time_used = timedelta(hours=29)
    result = cli(*PUSH)
    assert result.code == 0, result.err
    assert "1.0 of 30 GPU hours left" in result.out
    assert "(an estimate: no published run of it was measured yet), which may not fit: wait, or choose" in result.out


def test_exhausted_quota_is_refused_even_with_an_estimate(cli: Cli, kaggle: FakeKaggle) -> None:
    kaggle.gpu_time_used, kaggle.gpu_time_reserved = timedelta(hours=29), timedelta(hours=1)
    refused = cli(*PUSH)
    assert "Kaggle quota: 0.0 of 30 GPU hours left" in refused.err
    assert kaggle.sessions == []
    assert_nothing_left(refused)


def test_insufficient_quota_for_a_measured_recipe_is_refused_unless_forced(
    cli: Cli, kaggle: FakeKaggle, tmp_path: Path
) -> None:
    kaggle.gpu_time_used = timedelta(hours=29)
    published_run(measured_artifact(tmp_path / "artifact"))
    measured = "(measured in densenet-20260101-1432-0001), 10 sessions of 11.7 hours: add --auto-resume"
    refused = cli(*PUSH)
    assert refused.code == 1
    assert f"{measured}; wait, or choose fewer epochs or images, or add --force" in refused.err
    assert kaggle.sessions == []
    forced = cli(*PUSH, "--force")
    assert forced.code == 0, forced.err
    assert f"{measured}, which may not fit" in forced.out


@pytest.mark.parametrize(
    "image",
    [
        f"gcr.io/kaggle-private-byod/python@sha256:{'0a' * 32}",
        f"gcr.io/kaggle-gpu-images/python@sha256:{'0a' * 32}",
        "gcr.io/kaggle-images/python:v160",
    ],
)
def test_kaggles_own_image_is_pinned(cli: Cli, kaggle: FakeKaggle, image: str) -> None:
    result = cli(*PUSH, "--docker-image", image)
    assert result.code == 0, result.err
    assert kaggle.sessions[0].request["dockerImage"] == image


@pytest.mark.parametrize(
    "image",
    [
        "gcr.io/kaggle-private-byod/python:latest",
        f"gcr.io/kaggle-private-byod/python@sha256:{'0a' * 31}",
        f"gcr.io/kaggle-private-byod/python@sha256:{'0a' * 32}\n",
        f"gcr.io/other-project/python@sha256:{'0a' * 32}",
    ],
)
def test_image_that_is_not_kaggles_is_refused(cli: Cli, kaggle: FakeKaggle, image: str) -> None:
    result = cli(*PUSH, "--docker-image", image)
    assert result.code == 2
    assert "such as gcr.io/kaggle-private-byod/python@sha256:<64 hex digits>" in result.err
    assert kaggle.sessions == []


def test_token_dataset_that_is_missing_is_refused_before_the_push(cli: Cli, kaggle: FakeKaggle) -> None:
    result = cli(*PUSH, "--token-dataset", "chex/nothing")
    assert "Kaggle has no dataset chex/nothing" in result.err
    assert kaggle.sessions == []
    assert_nothing_left(result)


def test_token_dataset_that_is_not_ready_is_refused_before_the_push(
    cli: Cli, kaggle: FakeKaggle, token_dataset: str
) -> None:
    kaggle.datasets.known[token_dataset].pending = 1
    result = cli(*PUSH, "--token-dataset", token_dataset)
    assert "is not ready (blobs_received)" in result.err
    assert kaggle.sessions == []
    assert_nothing_left(result)


def test_token_dataset_deleted_before_the_push_is_a_failure_that_names_the_page(
    kaggle: FakeKaggle, token_dataset: str, tmp_path: Path
) -> None:
    target = Kaggle(KaggleOptions(timeout_hours=1, token_dataset=token_dataset))
    target.check(None)
    target.prepare(RECORD, tmp_path)
    (tmp_path / "script.py").write_text("print('runs')")
    del kaggle.datasets.known[token_dataset]
    page = f"https://www.kaggle.com/code/chex/chexvision-{RECORD.run_id}"
    with pytest.raises(NotAsRequested, match=f"without chex/hub-token, .* or on {page}") as raised:
        target.start(RECORD, tmp_path)
    assert raised.value.session.handle == kaggle.sessions[0].ref


def test_session_that_was_started_without_its_token_dataset_is_recorded(
    cli: Cli, kaggle: FakeKaggle, token_dataset: str
) -> None:
    def vanishes_at_the_push(line: str) -> bool:
        if "SaveKernel" in line:
            del kaggle.datasets.known[token_dataset]
        return False

    kaggle.faults.add(vanishes_at_the_push, Fault.status(500))
    result = cli(*PUSH, "--token-dataset", token_dataset)
    assert result.code == 1
    assert f"started the session without {token_dataset}" in result.err
    assert [one.handle for one in records.find(None).sessions] == [kaggle.sessions[0].ref]


@pytest.mark.parametrize("token", ["", "KGAT_expired"])
def test_missing_and_invalid_credentials_are_distinguished(
    cli: Cli, kaggle: FakeKaggle, monkeypatch: pytest.MonkeyPatch, token: str
) -> None:
    kaggle.environment(monkeypatch, token=token)
    result = cli(*PUSH)
    expected = "Kaggle does not accept the token in KAGGLE_API_TOKEN" if token else "no Kaggle credentials"
    assert f"error: {expected}" in result.err
    assert "https://www.kaggle.com/settings" in result.err
    assert len(result.err.splitlines()) == 1
    assert "KGAT_expired" not in result.err + result.out
    assert_nothing_left(result)


def test_invalid_access_token_with_a_valid_legacy_key_is_named(
    cli: Cli, kaggle: FakeKaggle, monkeypatch: pytest.MonkeyPatch
) -> None:
    kaggle.environment(monkeypatch, token="KGAT_expired")
    monkeypatch.setenv("KAGGLE_USERNAME", kaggle.user)
    monkeypatch.setenv("KAGGLE_KEY", kaggle.key)
    result = cli(*PUSH)
    assert "does not accept the credentials in KAGGLE_API_TOKEN (HTTP 401)" in result.err
    assert_nothing_left(result)


def test_legacy_key_alone_is_enough(cli: Cli, kaggle: FakeKaggle, monkeypatch: pytest.MonkeyPatch) -> None:
    kaggle.environment(monkeypatch, token="")
    monkeypatch.setenv("KAGGLE_USERNAME", kaggle.user)
    monkeypatch.setenv("KAGGLE_KEY", kaggle.key)
    assert cli(*PUSH).code == 0
    assert len(kaggle.sessions) == 1


@pytest.mark.parametrize(
    "fault", [Fault.lose_response(), Fault.disconnect(10), Fault.disconnect(0)], ids=["lost", "disconnect", "empty"]
)
def test_push_whose_response_was_lost_is_found_and_not_repeated(cli: Cli, kaggle: FakeKaggle, fault: Fault) -> None:
    kaggle.faults.add("SaveKernel", fault)
    result = cli(*PUSH)
    assert result.code == 0, result.err
    assert len(kaggle.sessions) == 1
    assert f"page   https://www.kaggle.com/code/{kaggle.sessions[0].ref}" in result.out


@pytest.mark.parametrize(
    "fault", [Fault.disconnect(10, during="request"), Fault.status(503)], ids=["disconnect", "503"]
)
def test_push_that_never_arrived_fails_after_a_check_and_is_recorded(
    cli: Cli, kaggle: FakeKaggle, fault: Fault
) -> None:
    kaggle.faults.add("SaveKernel", fault)
    result = cli(*PUSH)
    assert result.code == 1
    assert "and shows no kernel chex/chexvision-densenet-" in result.err
    assert sum("SaveKernel" in request.path for request in kaggle.requests) == 1
    assert sum("GetKernelSessionStatus" in request.path for request in kaggle.requests) == 2
    (path,) = records.runs_dir().glob("*.json")
    assert records.load(path.stem).sessions == ()


def test_rate_limit_of_kaggle_is_a_refusal(cli: Cli, kaggle: FakeKaggle) -> None:
    kaggle.faults.add("SaveKernel", Fault.status(429))
    result = cli(*PUSH)
    assert "HTTP 429 (fault on demand) and refused the push; too many requests" in result.err
    assert_nothing_left(result)


def test_unreachable_kaggle_is_a_one_line_error(cli: Cli, kaggle: FakeKaggle) -> None:
    kaggle.close()
    result = cli(*PUSH)
    assert "Kaggle did not answer while logging in (ConnectionError); check your connection" in result.err
    assert_nothing_left(result)
