"""Leave-one-dataset-out: a run without each data set of a mixture, measured on the one that it has not seen."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from chexvision.artifact.contents import METRICS
from chexvision.artifact.metrics_file import read_metrics
from chexvision.config.data_config import SPLIT_RULES
from chexvision.config.recipe import Recipe
from chexvision.errors import ChexError, UsageError
from chexvision.evaluation.study_results import LeftOut
from chexvision.files.atomic import write_text_atomic
from chexvision.hub.reference import Reference, RepoRef, parse_reference, short_names
from chexvision.metrics.records import IntervalMethod


def left_out_changes(recipe: Recipe) -> dict[str, tuple[str, Mapping[str, Any]]]:
    """For each data set of a recipe's mixture its name, and the changes of the recipe that trains without it.

    Returns:
        By the name of the variant, such as ``without chexpert-320``.

    Raises:
        UsageError: the recipe has no mixture.
    """
    datasets = recipe.data.datasets
    if not datasets:
        raise UsageError("leave_one_out: the recipe trains on one data set; name several in data.datasets")
    references = [parse_reference(one.name) for one in datasets]
    short = short_names([of.repo_id if isinstance(of, RepoRef) else str(of) for of in references])
    changes: dict[str, tuple[str, Mapping[str, Any]]] = {}
    for one, name in zip(datasets, short, strict=True):
        others = [other for other in datasets if other is not one]
        if len(others) > 1:
            words: dict[str, Any] = {"data.datasets": [other.model_dump() for other in others]}
        else:
            words = {"data.dataset": others[0].name, "data.split": others[0].split or recipe.data.split}
        changes[f"without {name}"] = (one.name, words)
    return changes


@dataclass(frozen=True, slots=True)
class Pair:
    """The models of one seed, trained with a data set and without it.

    Args:
        variant: the name of the one without it.
        seed: of both.
        dataset: the data set at its commit.
        split: how it is divided, as in a recipe.
        models: with it, and without it.
        folder: for what is measured; read again from there.
    """

    variant: str
    seed: int
    dataset: str
    split: str
    models: tuple[Reference, Reference]
    folder: Path

    def result(self, method: IntervalMethod) -> LeftOut:
        """Both on the data set's test images, on this machine, as `chexvision evaluate` measures them.

        Raises:
            ChexError: torch is not installed here, or the data set has no test images.
        """
        if not (self.folder / METRICS).is_file():
            self._evaluate(method)
        found = read_metrics(self.folder / METRICS).comparisons[0]
        return LeftOut(
            variant=self.variant,
            dataset=self.dataset,
            seed=self.seed,
            images=found.images,
            patients=found.patients,
            findings=found.macro_findings,
            macro_auroc=found.macro,
        )

    def _evaluate(self, method: IntervalMethod) -> None:
        if find_spec("torch") is None:
            raise ChexError(
                "it needs torch on this machine: pip install 'chexvision[train]'; or on another one: chexvision "
                f"evaluate {self.models[0]} {self.models[1]} --data {self.dataset}"
            )
        from chexvision.evaluation.computing import OnThisMachine
        from chexvision.evaluation.evaluate import evaluate
        from chexvision.evaluation.outcome import Options
        from chexvision.training.hardware import start_accelerator

        table = self.split if self.split not in SPLIT_RULES else None  # rules are recorded by the models
        options = Options(split_rule=table, choose_on=None, method=method)
        names = ["with it", "without it"]
        data, here = parse_reference(self.dataset), OnThisMachine(start_accelerator("auto"))
        outcome = evaluate(names, list(self.models), data, options, here)
        write_text_atomic(self.folder / METRICS, outcome.evaluation.model_dump_json(indent=2) + "\n")
