from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from chexvision.config.recipe import Recipe, known_keys
from chexvision.errors import UsageError
from chexvision.recipes import (
    load_about,
    load_recipe,
    preset_names,
    recipe_names,
    resolve_recipe,
    with_datasets,
)

NO_WEIGHTS = "model.weights=none"


@pytest.mark.parametrize("name", recipe_names())
def test_every_recipe_is_valid_alone_and_under_every_preset(name: str) -> None:
    about = load_about(name)
    needed = [f"{key}=none" for key in about.needs] if about is not None else []
    assert needed in ([], [NO_WEIGHTS])
    for preset in (None, *preset_names()):
        assert load_recipe(name, preset=preset, overrides=needed).name == name


@pytest.mark.parametrize("name", [name for name in recipe_names() if name not in ("densenet", "scratch")])
def test_every_recipe_of_the_zoo_says_what_it_reproduces_and_where_it_differs(name: str) -> None:
    about = load_about(name)
    assert about is not None
    assert about.reproduces and about.differs


def test_a_recipe_without_its_needed_value_says_in_one_line_how_to_set_it(tmp_path: Path) -> None:
    mine = tmp_path / "mine.yaml"
    mine.write_text(
        "extends: base\nabout: {reproduces: x, needs: {model.weights: convert them once}}\n"
        "model: {backbone: se_resnet34, hidden_features: 0, dropout: 0}\n"
        "training: {phases: [{epochs: 1, lr: 1, min_lr: 0, warmup_epochs: 0, freeze: none}]}\n"
    )
    heir = tmp_path / "heir.yaml"
    heir.write_text("extends: mine\n")
    for path in (mine, heir):
        with pytest.raises(UsageError) as caught:
            load_recipe(str(path))
        assert str(caught.value) == f"recipe {path}: model.weights has to be set: convert them once"
        assert load_recipe(str(path), overrides=[NO_WEIGHTS]).model.weights == "none"
    assert load_about(str(heir)) is None  # not inherited


@pytest.mark.parametrize(
    ("about", "message"),
    [
        ("{reproduce: x}", "about: reproduces: Field required"),
        ("{reproduces: x, split: official}", "reported and split belong together"),
        ("{reproduces: x, papers: y}", "about: papers"),
        ("some text", "about: "),
        ("{reproduces: 2024-01-01}", "about: "),
    ],
)
def test_a_wrong_about_section_is_refused_in_one_line(tmp_path: Path, about: str, message: str) -> None:
    mine = tmp_path / "mine.yaml"
    mine.write_text(f"extends: densenet\nabout: {about}\n")
    for read in (load_about, load_recipe):
        with pytest.raises(UsageError) as caught:
            read(str(mine))
        assert str(caught.value).startswith(str(mine)) and message in str(caught.value)
        assert "\n" not in str(caught.value)


def test_values_know_where_they_were_written(tmp_path: Path) -> None:
    mine = tmp_path / "mine.yaml"
    mine.write_text("extends: densenet\noptim: {batch_size: 48}\n")
    overrides = ["training.phases.0.lr=0.5", "loss.name=focal"]
    resolved = resolve_recipe(str(mine), preset="smoke", overrides=overrides)
    origins = resolved.origins
    assert origins["data.clahe.tiles"] == "base.yaml"
    assert origins["model.backbone"] == "densenet.yaml"
    assert origins["data.image_size"] == origins["optim.batch_size"] == "preset smoke"
    assert (origins["training.phases.0.lr"], origins["training.phases.1.lr"]) == ("--set", "densenet.yaml")
    assert origins["loss.name"] == "--set"
    assert "training.monitor" not in origins  # a default
    assert resolved.recipe == load_recipe(str(mine), preset="smoke", overrides=overrides)
    assert resolve_recipe(str(mine)).origins["optim.batch_size"] == "mine.yaml"


def test_a_mapping_over_a_list_changes_each_entry() -> None:
    recipe, smoke = load_recipe("densenet"), load_recipe("densenet", preset="smoke")
    assert len(smoke.training.phases) == len(recipe.training.phases)
    for short, phase in zip(smoke.training.phases, recipe.training.phases, strict=True):
        assert (short.epochs, short.lr, short.freeze) == (2, phase.lr, phase.freeze)


def test_densenet_trains_the_heads_for_an_epoch_and_then_all_layers() -> None:
    recipe = load_recipe("densenet")
    first, second = recipe.training.phases
    assert (first.epochs, first.freeze, second.freeze) == (1, "all", "none")
    assert first.lr > second.lr
    assert (recipe.augment.crop_scale, recipe.loss.pos_weight_power, recipe.optim.weight_decay) == (0.3, 0, 0.05)
    assert recipe.model.weights == "imagenet"


@pytest.mark.parametrize("name", ["densenet", "efficientnet", "effnetv2-s", "convnext-t", "swin-t"])
def test_fine_tuning_has_the_learning_rate_of_its_source(name: str) -> None:
    # Xiao et al.: 2.5e-4 per 256 images of a step.
    recipe = load_recipe(name)
    phase = recipe.training.phases[1]
    assert phase.lr == 2.5e-4 * recipe.optim.batch_size / 256
    assert (phase.freeze, recipe.optim.name, recipe.optim.weight_decay) == ("none", "adamw", 0.05)


# What `base` sets and the original did not have: each is switched off, or the recipe says so.
SILENT: dict[str, Callable[[Recipe], bool]] = {
    "CLAHE": lambda recipe: recipe.data.clahe.enabled,
    "averaged": lambda recipe: recipe.training.ema_decay > 0,
    "second head": lambda recipe: recipe.loss.binary_weight > 0,
}


@pytest.mark.parametrize("name", [name for name in recipe_names() if name != "scratch"])
def test_what_a_recipe_adds_to_its_original_is_named(name: str) -> None:
    about = load_about(name)
    assert about is not None
    recipe = load_recipe(name, overrides=[f"{key}=none" for key in about.needs])
    differs = " ".join(about.differs)
    assert [word for word, is_on in SILENT.items() if is_on(recipe) and word not in differs] == []


def test_overrides_are_applied_last_and_index_lists() -> None:
    recipe = load_recipe("densenet", preset="smoke", overrides=["training.phases.0.lr=3e-4", "augment.hflip=0"])
    assert recipe.training.phases[0].lr == 3e-4
    assert recipe.augment.hflip == 0
    assert recipe.data.image_size == 112  # of the preset


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (
            ["augment.rotation_degrees=3"],
            "unknown key 'augment.rotation_degrees'; did you mean 'augment.rotate_degrees'",
        ),
        (["augmnt.hflip=0.4"], "unknown key 'augmnt'; did you mean 'augment'"),
        (["training.seed_=1"], "did you mean 'training.seed'"),
        (["optim.batch_size=many"], "optim.batch_size: Input should be a valid integer, got 'many'"),
        (["optim.batch_size=0"], "optim.batch_size: Input should be greater than or equal to 1, got 0"),
        (["data.clahe.enabled=1"], "data.clahe.enabled"),
        (["training.phases.0.lr=.inf"], "training.phases.0.lr"),
        (["training.phases=[]"], "training.phases"),
        (["training.phases.7.lr=1"], "training.phases.7"),
        (["model.backbone=resnet"], "unknown backbone 'resnet'; known are alexnet"),
        (["model.backbone=se_resnet34"], "se_resnet34 has no ImageNet weights"),
        (["loss.binary_weight=0", "loss.multilabel_weight=0"], "nothing would be learned"),
        (["training.phases.0.warmup_epochs=9"], "longer than the phase"),
        (["data.split=offical"], "data: split 'offical' is not official, chexnet, patient, shards or a table's file"),
        (["data.split=offical"], "did you mean 'official'?"),
        (["data.split_table=mine.csv"], "did you mean 'data.split'?"),
        (["data.validation_share=1"], "data.validation_share: Input should be less than 1, got 1"),
        (["seed"], "must read a.b=value"),
        (["training.seed.x=1"], "is a value, it has no key"),
    ],
)
def test_a_wrong_value_is_refused_in_one_line_that_names_the_key(overrides: list[str], message: str) -> None:
    with pytest.raises(UsageError) as caught:
        load_recipe("densenet", overrides=overrides)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_an_unknown_model_names_the_nearest_one() -> None:
    with pytest.raises(UsageError, match=r"unknown model 'densnet'; did you mean 'densenet'"):
        load_recipe("densnet")


def test_a_user_file_extends_a_shipped_recipe(tmp_path: Path) -> None:
    mine = tmp_path / "mine.yaml"
    mine.write_text("extends: densenet\noptim: {batch_size: 48}\n")
    recipe = load_recipe(str(mine))
    assert (recipe.name, recipe.optim.batch_size, recipe.optim.clip_norm) == ("mine", 48, 5.0)


def test_a_recipe_that_extends_itself_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text("extends: b\n")
    (tmp_path / "b.yaml").write_text("extends: a\n")
    with pytest.raises(UsageError, match="extends itself"):
        load_recipe(str(tmp_path / "a.yaml"))


@pytest.mark.parametrize("text", ["- a list", "a: [", "\x00"])
def test_file_that_is_not_a_mapping_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "bad.yaml").write_text(text)
    with pytest.raises(UsageError, match=r"bad\.yaml"):
        load_recipe(str(tmp_path / "bad.yaml"))


def test_every_known_key_is_in_the_validated_recipe() -> None:
    tree = load_recipe("densenet", overrides=["data.datasets=[{name: x}]", "data.temperature=2"]).model_dump()
    keys = list(known_keys())
    assert {"training.seed", "data.clahe.tiles", "training.phases.0.lr"} <= set(keys)
    for key in keys:
        node: Any = tree
        for part in key.split("."):
            assert part.isdigit() or part in node, key
            node = node[int(part)] if part.isdigit() else node[part]


def test_what_was_written_last_of_a_data_set_and_a_mixture_counts(tmp_path: Path) -> None:
    mixed = tmp_path / "mixed.yaml"
    mixed.write_text("extends: scratch\ndata: {datasets: [{name: u/a}, {name: u/b, weight: 2}]}\n")
    alone = tmp_path / "alone.yaml"
    alone.write_text("extends: mixed\ndata: {dataset: u/c}\n")
    data = load_recipe(str(mixed)).data
    assert (data.dataset, [one.weight for one in data.named]) == (None, [1, 2])
    assert [one.name for one in load_recipe(str(alone)).data.named] == ["u/c"]
    changed = load_recipe(str(mixed), overrides=["data.datasets.0.weight=3"]).data
    assert [one.weight for one in changed.datasets] == [3, 2]
    assert load_recipe(str(mixed), overrides=["data.dataset=u/d"]).data.datasets == ()
    assert load_recipe(str(alone), overrides=["data.datasets=[{name: u/e}]"]).data.dataset is None


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ("dataset: u/a, datasets: [{name: u/b}]", "there is both, name the data set in datasets"),
        ("dataset: null", "there is neither, name the data"),
        ("datasets: [{name: u/a}, {name: u/a}]", "u/a is named twice; give it a weight instead"),
        ("datasets: [{name: u/a, split: patient}]", "u/a is the only one; give its split in data.split"),
        ("datasets: [{name: u/a, weight: 0}]", "data.datasets.0.weight: Input should be greater than 0"),
        ("datasets: [{name: u/a, split: offical}]", "did you mean 'official'?"),
        ("datasets: [{name: u/a, weigth: 2}]", "'data.datasets.0.weigth'; did you mean 'data.datasets.0.weight'?"),
        ("datasets: u/a", "data.datasets: Input should be"),
        ("temperature: 0", "data.temperature: Input should be greater than 0"),
    ],
)
def test_a_mixture_that_cannot_be_is_refused_in_one_line(tmp_path: Path, changes: str, message: str) -> None:
    (tmp_path / "mine.yaml").write_text(f"extends: scratch\ndata: {{{changes}}}\n")
    with pytest.raises(UsageError) as caught:
        load_recipe(str(tmp_path / "mine.yaml"))
    assert message in str(caught.value) and "\n" not in str(caught.value)


def test_data_of_the_command_line_replace_those_of_the_recipe() -> None:
    own = "{name: u/a, weight: 2, split: patient}"
    recipe = load_recipe("scratch", overrides=[f"data.datasets=[{own}, {{name: u/b}}]"])
    assert with_datasets(recipe, ["u/c"]).data.dataset == "u/c"
    splits = [with_datasets(recipe, [name]).data.split for name in ("u/a", "u/b", "u/c")]
    assert splits == ["patient", recipe.data.split, recipe.data.split] and recipe.data.split != "patient"
    several = with_datasets(recipe, ["u/c", "u/a"]).data
    assert [(one.name, one.weight) for one in several.datasets] == [("u/c", 1), ("u/a", 2)]
    with pytest.raises(UsageError, match=r"--data: .*u/c is named twice"):
        with_datasets(recipe, ["u/c", "u/c"])
