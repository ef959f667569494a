"""`chexvision models list` and `models show`, on a laptop without torch and with it."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from chexvision.cli import main
from chexvision.recipes import load_recipe, recipe_names

ROW = {
    "recipe", "reproduces", "backbone", "parameters", "megabytes", "gmacs", "image_size", "weights", "license",
    "non_commercial", "reported", "split", "t4_hours",
}  # fmt: skip
DETAIL = {
    "format", "summary", "paper", "differs", "needs", "t4_hours_basis", "parameters", "phases", "settings",
}  # fmt: skip
PHASE = {"epochs", "image_size", "lr", "schedule", "freeze", "trainable_parameters"}


@pytest.fixture
def printed(capsys: pytest.CaptureFixture[str]) -> Any:
    def run(*words: str, code: int = 0) -> str:
        with pytest.raises(SystemExit) as ended:
            main(["models", *words])
        result = capsys.readouterr()
        assert ended.value.code == code, result.err
        return result.out if code == 0 else result.err

    return run


@pytest.fixture
def laptop(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine without what training needs."""
    for name in ("torch", "timm", "numpy", "pyarrow"):
        monkeypatch.setitem(sys.modules, name, None)
    for name in [name for name in sys.modules if name.startswith("chexvision.models")]:
        monkeypatch.delitem(sys.modules, name)


@pytest.mark.usefixtures("laptop")
def test_the_list_has_every_recipe_without_torch(printed: Any) -> None:
    content = json.loads(printed("list", "--json"))
    assert set(content) == {"format", "models"} and content["format"] == 1
    rows = {row["recipe"]: row for row in content["models"]}
    assert sorted(rows) == recipe_names()
    assert all(set(row) == ROW for row in rows.values())
    chexnet = rows["chexnet"]
    assert chexnet["reported"] == "macro AUROC 0.841" and "70/10/20" in chexnet["split"]
    assert 6.9e6 < chexnet["parameters"] < 7e6 and chexnet["megabytes"] == 27.8
    assert chexnet["license"] == "apache-2.0" and not chexnet["non_commercial"]
    assert rows["scratch"]["license"] is None  # random weights
    assert rows["evax-s"]["weights"] == "to be set"
    assert all(row["parameters"] for row in rows.values())
    assert all(0 < row["t4_hours"] < 12 for row in rows.values())  # one session


@pytest.mark.usefixtures("laptop")
def test_tables_name_network_figure_and_its_images(printed: Any) -> None:
    text = " ".join(printed("list").split())
    for name in recipe_names():
        assert name in text
    assert "macro AUROC 0.841, random by patient, 70/10/20, not published" in text


@pytest.mark.usefixtures("laptop")
def test_a_recipe_is_shown_with_the_origin_of_each_value(printed: Any, tmp_path: Path) -> None:
    mine = tmp_path / "mine.yaml"
    mine.write_text("extends: chexnet\noptim: {batch_size: 48}\n")
    words = ("show", str(mine), "--preset", "smoke", "--set", "training.phases.0.lr=0.5", "--json")
    content = json.loads(printed(*words))
    assert set(content) == DETAIL and set(content["summary"]) == ROW
    settings = content["settings"]
    assert settings["training.phases.0.lr"] == {"value": 0.5, "origin": "--set"}
    assert settings["data.image_size"] == {"value": 112, "origin": "preset smoke"}
    assert settings["optim.name"] == {"value": "adam", "origin": "chexnet.yaml"}
    assert settings["augment.rotate_degrees"] == {"value": 0, "origin": "plain.yaml"}
    assert settings["data.validation_share"]["origin"] == "base.yaml"
    assert settings["optim.layer_decay"] == {"value": 1.0, "origin": "default"}
    assert [set(phase) for phase in content["phases"]] == [PHASE]
    assert content["phases"][0]["trainable_parameters"] is None
    text = printed("show", "chexnet")
    assert "install chexvision[train] to count them" in text
    assert "Rajpurkar et al." in text and "macro AUROC 0.841" in text


def test_parameters_that_learn_are_counted_by_phase(printed: Any) -> None:
    # The DSAN study's figures are of a head of 14 outputs; here there is one more, of 2,048 weights and a bias.
    for freeze, reported in (("all", 28_686), ("partial", 14_993_422), ("none", 23_536_718)):
        content = json.loads(printed("show", "dsan-resnet50", "--freeze", freeze, "--json"))
        assert content["phases"][0]["trainable_parameters"] == reported + 2_049
        assert content["parameters"] == 23_536_718 + 2_049


def test_what_the_user_has_to_set_is_shown(printed: Any) -> None:
    content = json.loads(printed("show", "evax-s", "--json"))
    assert content["settings"]["model.weights"] == {"value": None, "origin": "to be set"}
    assert "chexvision weights convert" in content["needs"]["model.weights"]
    set_ = json.loads(printed("show", "evax-s", "--set", "model.weights=none", "--json"))
    assert set_["needs"] == {} and set_["settings"]["model.weights"]["value"] == "none"


def test_weights_that_forbid_commercial_use_stand_out(printed: Any) -> None:
    words = ("show", "convnext-t", "--set", "model.backbone=timm/convnextv2_tiny.fcmae_ft_in22k_in1k")
    assert json.loads(printed(*words, "--json"))["summary"]["non_commercial"]
    assert "license cc-by-nc-4.0, which forbids commercial use" in " ".join(printed(*words).split())


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (("show", "chexnett"), 2, "did you mean 'chexnet'"),
        (("show", "chexnet", "--freeze", "some"), 2, "--freeze some: choose none, partial, all, or a number"),
        (("show", "chexnet", "--freeze", "0"), 2, "--freeze 0"),
        (("show", "chexnet", "--set", "optim.lr=1"), 2, "unknown key 'optim.lr'"),
        (("show", "chexnet", "--freeze", "99"), 2, "99 stages cannot be frozen"),
    ],
)
def test_a_wrong_value_is_one_line(printed: Any, words: tuple[str, ...], code: int, message: str) -> None:
    error = printed(*words, code=code)
    assert message in error and error.startswith("error: ") and error.count("\n") == 1


def test_the_guide_has_the_figures_of_the_catalog() -> None:
    from chexvision.cli.zoo.entries import summarize

    guide = (Path(__file__).parents[2] / "docs" / "recipes.md").read_text(encoding="utf-8")
    for name in recipe_names():
        one = summarize(name)
        line = next(line for line in guide.splitlines() if line.startswith(f"| `{name}` |"))
        cells = (f"`{name}`", one.reproduces or "the project's own", one.reported or "–", one.split or "–")
        trained_on = load_recipe(name, overrides=["model.weights=none"]).data.split
        assert line == f"| {' | '.join(cells)} | `{trained_on}` | {one.t4_hours} |"
