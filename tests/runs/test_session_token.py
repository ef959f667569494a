"""Where a session finds its Hub token, and that it is never shown."""

from __future__ import annotations

from pathlib import Path

import pytest

from chexvision.errors import ChexError
from chexvision.runs.session_token import session_token


@pytest.mark.parametrize("mount", ["hub-token", "datasets/chex/hub-token", "datasets/organizations/chex/hub-token"])
def test_token_of_an_attached_dataset_is_found_at_each_mount(tmp_path: Path, mount: str) -> None:
    (tmp_path / mount).mkdir(parents=True)
    (tmp_path / mount / "hf_token.txt").write_text("hf_attached\n")
    token = session_token(tmp_path)
    assert token is not None
    assert token.value == "hf_attached"
    assert "hf_token.txt" in token.source


@pytest.mark.parametrize("variable", ["HF_TOKEN", "HUGGING_FACE_HUB_TOKEN"])
def test_environment_takes_precedence_over_an_attached_dataset(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, variable: str
) -> None:
    (tmp_path / "set").mkdir()
    (tmp_path / "set" / "hf_token.txt").write_text("hf_attached")
    monkeypatch.setenv(variable, " hf_environment ")
    token = session_token(tmp_path)
    assert token is not None
    assert (token.value, token.source) == ("hf_environment", f"the environment variable {variable}")


def test_no_token_anywhere_is_none(tmp_path: Path) -> None:
    assert session_token(tmp_path / "missing") is None


def test_token_value_is_not_in_its_repr_or_str(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_hidden")
    token = session_token(tmp_path)
    assert "hf_hidden" not in f"{token} {token!r}"


@pytest.mark.parametrize("content", ["", "  \n", "user: me\ntoken: hf_x", "hf_a\x00b"])
def test_invalid_token_file_is_an_error_that_does_not_show_its_content(tmp_path: Path, content: str) -> None:
    (tmp_path / "set").mkdir()
    (tmp_path / "set" / "hf_token.txt").write_text(content)
    with pytest.raises(ChexError, match=r"hf_token\.txt must hold a Hub token and nothing else") as refused:
        session_token(tmp_path)
    assert "hf_x" not in str(refused.value)
