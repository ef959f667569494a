"""Patient-level cross-validation of recipes on a folder of radiographs: runs them, and keeps every prediction.

Each variant is trained for every seed and every fold. A seed decides the folds of the patients and the initial
weights. A fold's images are predicted by weights that saw none of its patients: some of the other patients, also
chosen by the seed, are the validation split that selects the weights; the rest is trained on. A result is a file, so
an interrupted benchmark continues, and several processes with different seeds can share a folder.
"""

from __future__ import annotations

import hashlib
import json
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import yaml
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, TypeAdapter, ValidationError

from chexvision.bench.fold_training import WAYS, FoldResult, RunFacts, train_by_predecessor, train_by_recipe
from chexvision.bench.predecessor import EPOCHS
from chexvision.config.recipe import Recipe
from chexvision.data.dataset import open_split, splits_of
from chexvision.data.rows import read_rows
from chexvision.data.source import ShardSource, find_shards
from chexvision.errors import ChexError, UsageError
from chexvision.files.atomic import atomic_path, write_text_atomic
from chexvision.files.json_files import first_problem
from chexvision.metrics.predictions import Predictions
from chexvision.models.untrained import build_model
from chexvision.recipes import load_recipe
from chexvision.shards.build import BuildOptions, build_shards
from chexvision.training.hardware import start_accelerator

Ints = NDArray[np.int64]

SMALL_DATA = Path(__file__).with_name("small_data.yaml")
VALIDATION_SHARE = 0.15  # of the images outside the fold


class Variant(BaseModel):
    """One way of training.

    Args:
        like: the name of another variant, whose `recipe` it has, and whose `set` comes before its own.
        recipe: a recipe's name or file.
        set: overrides, ``a.b=value``.
        loop: "recipe" trains by the training loop; "predecessor" by the baseline's loop, which takes the network and
            the images of the recipe, and nothing else.
        epochs: of the baseline's loop.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    like: str | None = None
    recipe: str = "scratch"
    set: tuple[str, ...] = ()
    loop: Literal["recipe", "predecessor"] = "recipe"
    epochs: int = EPOCHS

    def resolved(self, size: int, seed: int, split: str = "patient") -> Recipe:
        """The recipe of one run."""
        fixed = (f"data.image_size={size}", f"data.split={split}", f"training.seed={seed}")
        return load_recipe(self.recipe, overrides=[*self.set, *fixed])


def read_variants(path: Path = SMALL_DATA, overrides: Sequence[str] = ()) -> dict[str, Variant]:
    """The variants of a YAML file, by name.

    Args:
        path: the file; the default one is described in docs/recipes.md.
        overrides: ``a.b=value``, for all of them.

    Raises:
        UsageError: it cannot be read, contains anything else, or a recipe is not valid.
    """
    try:
        variants = TypeAdapter(dict[str, Variant]).validate_python(yaml.safe_load(path.read_text()))
    except (OSError, yaml.YAMLError) as error:
        raise UsageError(f"{path} cannot be read: {' '.join(str(error).split())}") from None
    except ValidationError as error:
        raise UsageError(f"{path} does not describe variants: {first_problem(error)}") from None
    complete: dict[str, Variant] = {}
    for name, variant in variants.items():
        if variant.like is not None:
            if variant.like not in complete:
                raise UsageError(f"{path}: {name} is like {variant.like!r}, which is not a variant above it")
            other = complete[variant.like]
            variant = variant.model_copy(update={"recipe": other.recipe, "set": (*other.set, *variant.set)})
        variant.resolved(size=64, seed=0)
        complete[name] = variant
    return {name: of.model_copy(update={"set": (*of.set, *overrides)}) for name, of in complete.items()}


@dataclass(frozen=True, slots=True)
class CrossValidation:
    """Folds of a set of shards, and the folder of the results.

    Args:
        source: the shards.
        work: of the results.
        folds: how many.
        size: side of the images in pixels.
    """

    source: ShardSource
    work: Path
    folds: int
    size: int

    def split_table(self, seed: int, fold: int) -> Path:
        """The ``patient_id,split`` table of a fold, which is written unless it is there."""
        path = self.work / "splits" / f"seed{seed}-fold{fold}-of{self.folds}.csv"
        if not path.is_file():
            rows = read_rows(self.source.shards).values()
            patients = np.concatenate([of.patients for of in rows])
            splits = divided(patients, self.folds, fold, seed)
            lines = [f"{patient},{split}\n" for patient, split in sorted(splits.items())]
            path.parent.mkdir(parents=True, exist_ok=True)
            write_text_atomic(path, "patient_id,split\n" + "".join(lines))
        return path

    def result(self, name: str, variant: Variant, seed: int, fold: int) -> FoldResult | None:
        """A stored result; None if there is none.

        Raises:
            ChexError: it was made with other settings.
        """
        path = self._path(name, seed, fold)
        if not path.is_file():
            return None
        with np.load(path) as stored:
            arrays = dict(stored)
        if str(arrays["settings"]) != self._settings(variant, seed, fold):
            raise ChexError(f"{path} was made with other settings; remove it, or give the variant another name")
        names = tuple(arrays["names"].tolist())
        labels = names, arrays["filenames"], arrays["patients"]
        predictions = {
            way: Predictions(*labels, arrays[way].astype(np.float64), arrays["targets"])
            for way in WAYS
            if way in arrays
        }
        return FoldResult(RunFacts(**json.loads(str(arrays["facts"]))), predictions)

    def run(self, name: str, variant: Variant, seed: int, fold: int) -> FoldResult:
        """Train a variant on a fold, and store the result."""
        recipe = variant.resolved(self.size, seed, str(self.split_table(seed, fold)))
        accelerator = start_accelerator(recipe.training.precision)
        rows = splits_of(self.source, recipe.data, seed)
        splits = {split: open_split(self.source, rows, split, recipe.data, quiet=True) for split in rows}
        model = build_model(recipe, self.source.label_space)
        if variant.loop == "predecessor":
            result = train_by_predecessor(model, splits, accelerator, seed, variant.epochs)
        else:
            with tempfile.TemporaryDirectory(prefix="chexvision-bench-") as work:
                result = train_by_recipe(recipe, model, splits, accelerator, Path(work))
        path = self._path(name, seed, fold)
        path.parent.mkdir(parents=True, exist_ok=True)
        labels = next(iter(result.predictions.values()))
        with atomic_path(path) as partial, partial.open("wb") as file:
            np.savez_compressed(
                file,
                settings=self._settings(variant, seed, fold),
                facts=json.dumps(asdict(result.facts)),
                names=np.array(labels.names),
                filenames=labels.filenames,
                patients=labels.patients,
                targets=labels.targets,
                **{way: of.probabilities.astype(np.float32) for way, of in result.predictions.items()},  # type: ignore[arg-type]
            )
        return result

    def _path(self, name: str, seed: int, fold: int) -> Path:
        return self.work / "results" / name / f"seed{seed}-fold{fold}-of{self.folds}.npz"

    def _settings(self, variant: Variant, seed: int, fold: int) -> str:
        recipe = variant.resolved(self.size, seed)
        used: list[BaseModel] = [recipe.model, recipe.data] if variant.loop == "predecessor" else [recipe]
        parts = [one.model_dump_json(exclude_defaults=True) for one in used]
        parts += [variant.loop, str(variant.epochs), self.source.identity, f"{seed} {fold} of {self.folds}"]
        return hashlib.sha256(" ".join(parts).encode()).hexdigest()


def divided(patients: Ints, folds: int, fold: int, seed: int) -> dict[int, str]:
    """The split of each patient: the fold is test, some of the others are validation, the rest train.

    Folds have about equal numbers of images.

    Args:
        patients: int64[N], of each image.
        folds: how many.
        fold: which one is test, from 0.
        seed: of the division; all folds of a seed are parts of the same one.
    """
    known, counts = np.unique(patients, return_counts=True)
    order = np.random.default_rng(seed).permutation(len(known))
    sizes = np.zeros(folds, np.int64)
    fold_of = np.zeros(len(known), np.int64)
    for i in sorted(order, key=lambda i: -counts[i]):  # stable: patients of equal size stay in random order
        fold_of[i] = sizes.argmin()
        sizes[fold_of[i]] += counts[i]
    splits = dict.fromkeys(known[fold_of == fold].tolist(), "test")
    others = [i for i in np.random.default_rng([seed, fold]).permutation(len(known)) if fold_of[i] != fold]
    wanted, images = VALIDATION_SHARE * counts[others].sum(), 0
    for i in others:
        splits[int(known[i])] = "validation" if images < wanted else "train"
        images += counts[i]
    return splits


def open_cross_validation(
    images: Sequence[Path], metadata: Path, work: Path, folds: int, size: int
) -> CrossValidation:
    """Build the shards of `images` in `work`, unless they are there.

    Args:
        images: folders of radiographs.
        metadata: the release's table of labels.
        work: a folder for everything that is made.
        folds: how many.
        size: side of the images in pixels.
    """
    shards = work / f"shards-{size}"
    if not shards.is_dir():
        options = BuildOptions(
            split="patient",
            size=size,
            encoding="png",
            shard_bytes=2**28,
            workers=1,
            seed=0,
            max_bad=1,
            overwrite=False,
        )
        work.mkdir(parents=True, exist_ok=True)
        build_shards(list(images), metadata, shards, options)
    return CrossValidation(find_shards(shards), work, folds, size)


def run_missing(
    validation: CrossValidation, variants: dict[str, Variant], seeds: Sequence[int]
) -> Iterator[tuple[str, int, int, FoldResult]]:
    """Train what has no result yet: every variant with the first seed, then with the next."""
    for seed in seeds:
        for name, variant in variants.items():
            for fold in range(validation.folds):
                if validation.result(name, variant, seed, fold) is None:
                    yield name, seed, fold, validation.run(name, variant, seed, fold)
