"""Study files: what they expand to, and what is refused before anything is sent."""

from __future__ import annotations

from pathlib import Path

import pytest

from chexvision.errors import UsageError
from chexvision_dispatch.studies.study_file import Study, read_study, seeds_study, study_names


def written(text: str) -> Study:
    Path("mine.yaml").write_text(text)
    return read_study("mine.yaml")


def names(study: Study) -> list[str]:
    return [run.name for run in study.runs]


def test_base_comes_first_and_variants_change_or_replace_its_recipe() -> None:
    study = written(
        """
        recipe: densenet
        preset: smoke
        set: {data.image_size: 96}
        variants:
          focal: {loss.name: focal}
          scratch: scratch
          small-scratch: {recipe: scratch, data.image_size: 64}
        """
    )
    assert names(study) == ["base", "focal", "scratch", "small-scratch"]
    base, focal, scratch, small = (run.recipe for run in study.runs)
    assert (base.model.backbone, base.data.image_size, base.loss.name) == ("timm/densenet121.tv_in1k", 96, "bce")
    assert (focal.data.image_size, focal.loss.name) == (96, "focal")
    assert (scratch.model.backbone, scratch.data.image_size) == ("se_resnet34", 96)
    assert (small.model.backbone, small.data.image_size) == ("se_resnet34", 64)


def test_grid_multiplies_every_variant_but_the_base_and_seeds_multiply_all() -> None:
    study = written(
        """
        recipe: densenet
        variants:
          densenet: {}
          scratch: scratch
        grid:
          training.phases.0.lr: [1e-3, 1e-4]
          loss.name: [bce, focal]
        seeds: [1, 2]
        """
    )
    assert len(study.runs) == 2 * (1 + 2 * 2 * 2)
    assert names(study)[:4] == ["base seed=1", "base seed=2", "densenet lr=0.001 loss=bce seed=1", names(study)[3]]
    assert study.variants[-1] == "scratch lr=0.0001 loss=focal"
    last = study.runs[-1].recipe
    assert (last.training.phases[0].lr, last.loss.name, last.training.seed) == (1e-4, "focal", 2)


def test_a_grid_alone_is_a_grid_of_the_base() -> None:
    study = written("{recipe: scratch, grid: {training.phases.0.lr: [1e-3, 1e-5], optim.weight_decay: [0, 0.1]}}")
    assert names(study) == [
        "base",
        "lr=0.001 weight_decay=0",
        "lr=0.001 weight_decay=0.1",
        "lr=1e-05 weight_decay=0",
        "lr=1e-05 weight_decay=0.1",
    ]


def test_a_variant_with_a_grid_of_its_own_does_not_take_that_of_the_study() -> None:
    study = written(
        """
        recipe: densenet
        variants:
          a: {}
          b: {recipe: scratch, grid: {}}
        grid: {training.phases.0.freeze: [all, none]}
        """
    )
    assert names(study) == ["base", "a freeze=all", "a freeze=none", "b"]


def test_keys_of_a_grid_that_end_alike_are_told_apart() -> None:
    study = written("{recipe: densenet, grid: {training.phases.0.lr: [1e-3], training.phases.1.lr: [1e-4]}}")
    assert names(study)[1] == "0.lr=0.001 1.lr=0.0001"


def test_each_data_set_of_a_mixture_is_left_out_in_turn() -> None:
    mixture = "[{name: u/nih}, {name: ./a/chexpert, split: patient, weight: 2}, {name: ./b/mimic}]"
    text = f"{{recipe: densenet, set: {{data.datasets: {mixture}}}, leave_one_out: data.datasets, seeds: [1, 2]}}"
    study = written(text)
    assert study.variants == ["base", "without nih", "without chexpert", "without mimic"]
    without = {run.variant: run for run in study.of("without chexpert") + study.of("without nih")}
    run = without["without chexpert"]
    assert (run.left_out, [one.name for one in run.recipe.data.datasets]) == ("./a/chexpert", ["u/nih", "./b/mimic"])
    (kept,) = [one for one in without["without nih"].recipe.data.datasets if one.name == "./a/chexpert"]
    assert (kept.weight, kept.split) == (2, "patient")
    assert [run.left_out for run in study.of("base")] == [None, None]


def test_a_changed_mixture_is_left_out_of_too() -> None:
    Path("mine.yaml").write_text("{recipe: densenet, leave_one_out: data.datasets}")
    study = read_study("mine.yaml", overrides=["data.datasets=[{name: ./a, split: shards}, {name: ./b}]"])
    assert study.variants == ["base", "without a", "without b"]
    trained = [(run.recipe.data.dataset, run.recipe.data.split, run.recipe.data.datasets) for run in study.runs[1:]]
    assert trained == [("./b", "official", ()), ("./a", "shards", ())]


def test_runs_that_train_the_same_have_one_key() -> None:
    study = written(
        "{recipe: densenet, variants: {same: densenet, tta: {evaluate: {tta: flip}}, other: {training.seed: 7}}}"
    )
    keys = [run.key("data") for run in study.runs]
    assert keys[0] == keys[1] == keys[2] != keys[3]
    assert keys[0] != study.runs[0].key("other data")
    assert study.runs[2].evaluation is not None
    assert study.runs[2].evaluation.tta == "flip"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{recipe: densnet}", "variant 'base': unknown model 'densnet'; did you mean 'densenet'?"),
        ("{recipe: densenet, variant: {}}", "unknown key 'variant'; did you mean 'variants'?"),
        ("{variants: {}}", "recipe: Field required"),
        ("{recipe: densenet, variants: {a: {los.name: bce}}}", "variant 'a': unknown key 'los'"),
        ("{recipe: densenet, variants: {a: {loss.gamma: 1}}}", "did you mean 'loss.focal_gamma'?"),
        ("{recipe: densenet, variants: {a: {evaluat: {}}}}", "unknown key 'evaluat'; did you mean 'evaluate'?"),
        ("{recipe: densenet, variants: {a: {evaluate: {ta: flip}}}}", "unknown key 'ta'; did you mean 'tta'?"),
        ("{recipe: densenet, variants: {a: {evaluate: {tta: true}}}}", "variant 'a': evaluate.tta: Input should be"),
        ("{recipe: densenet, variants: {a: [loss.name, focal]}}", "variant 'a': write a recipe's name, or a mapping"),
        ("{recipe: densenet, variants: {a: {loss.name: huber}}}", "variant 'a': recipe densenet: loss.name"),
        ("{recipe: densenet, variants: {base: scratch}}", "'base' is the recipe as it is; choose another name"),
        ("{recipe: densenet, variants: {a b: scratch, a-b: scratch}}", "'a-b' and 'a b' are one name (a-b)"),
        ("{recipe: densenet, variants: {'–': scratch}}", "has neither letters nor digits"),
        ("{recipe: densenet, seeds: [1, 1]}", "'base seed=1' and 'base seed=1' are one name"),
        ("{recipe: densenet, grid: {loss.name: []}}", "grid key 'loss.name' has no values"),
        (f"{{recipe: densenet, seeds: {list(range(300))}}}", "300 runs, at most 256 are allowed"),
        (f"{{recipe: densenet, grid: {{{', '.join(f'k{i}: {list(range(90))}' for i in range(9))}}}}}", "at most 256"),
        (
            "{recipe: densenet, set: {training.seed: 2024-01-01}}",
            "date is not JSON serializable; put such a value",
        ),
        ("{recipe: densenet, grid: {loss.name: [!!binary aGk=]}}", "type bytes is not JSON serializable"),
        ("[densenet]", "must hold a mapping"),
        ("{recipe: densenet, leave_one_out: data.datasets}", "trains on one data set; name several in data.datasets"),
        ("{recipe: densenet, leave_one_out: data.dataset}", "leave_one_out: Input should be 'data.datasets'"),
        ("{recipe: densenet, leave_one_out: data.datasets, variants: {a: {}}}", "leave out variants and grid"),
    ],
)
def test_a_study_that_cannot_run_is_refused_in_one_line(text: str, message: str) -> None:
    with pytest.raises(UsageError) as refused:
        written(text)
    assert message in str(refused.value)
    assert "\n" not in str(refused.value)


def test_a_study_needs_a_name_for_its_state() -> None:
    Path("–.yaml").write_text("{recipe: densenet}")
    with pytest.raises(UsageError, match="name has neither letters nor digits; rename it"):
        read_study("–.yaml")


def test_unknown_studies_are_refused_with_the_nearest_one() -> None:
    with pytest.raises(UsageError, match=r"no study file mine\.yaml"):
        read_study("mine.yaml")
    with pytest.raises(UsageError, match=r"unknown study 'ablatio'; did you mean 'ablation'\?"):
        read_study("ablatio")


@pytest.mark.parametrize("name", study_names())
def test_studies_of_the_project_are_valid_and_their_variants_differ_in_what_they_train(name: str) -> None:
    study = read_study(name)
    keys = [run.key("data") for run in study.runs if run.variant != "base" and run.evaluation is None]
    assert len(set(keys)) == len(keys)
    is_of_grid = study.runs[0].key("data") in keys  # the base of a grid is one of its points
    assert is_of_grid == (name not in ("ablation", "leave-one-dataset-out"))


def test_seeds_of_a_recipe_count_up_from_its_own_and_equal_requests_have_one_name() -> None:
    def seeds(preset: str | None = "smoke", data: str | None = None, to: str | None = None) -> Study:
        return seeds_study("densenet", 3, preset=preset, overrides=["training.seed=5"], data=data, to=to)

    study = seeds()
    assert names(study) == ["base seed=5", "base seed=6", "base seed=7"]
    assert study.variants == ["base"]
    assert [run.recipe.training.seed for run in study.runs] == [5, 6, 7]
    assert seeds() == study
    others = [seeds(preset=None), seeds(data="u/d"), seeds(to="u/m")]
    assert len({study.name, *(other.name for other in others)}) == 4
