"""`chexvision evaluate`, `compare` and `score`: metrics with their uncertainty."""

from __future__ import annotations

from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, TypeVar

import typer

from chexvision.cli.clusters.options import Address, On, Workers, refuse_workers
from chexvision.cli.models import Precision
from chexvision.config.test_time import Tta
from chexvision.errors import ChexError, UsageError

if TYPE_CHECKING:
    from chexvision.evaluation.outcome import CompareInput
    from chexvision.metrics.predictions import Predictions
    from chexvision.nih.metadata import Entry

T = TypeVar("T")

Resamples = Annotated[int, typer.Option("--resamples", min=100, help="Bootstrap resamples of the patients.")]
Seed = Annotated[int, typer.Option("--seed", min=0, help="Of the bootstrap.")]
Rule = Annotated[
    str, typer.Option("--thresholds", help="How to choose them: f1, youden, sensitivity=0.9, specificity=0.95.")
]
Data = Annotated[
    list[str],
    typer.Option(
        help="A folder of shards, or USER/NAME@<sha>. Further ones are measured with what is chosen on the first."
    ),
]
Split = Annotated[
    list[str] | None,
    typer.Option(help="What to measure, or all: once, or once per --data.  [default: test]", show_default=False),
]
SplitRule = Annotated[
    str | None,
    typer.Option(
        "--split-rule",
        metavar="RULE",
        help="official, chexnet, patient, shards, or a patient_id,split table.  [default: each model's own]",
    ),
]
SplitRules = Annotated[
    list[str] | None,
    typer.Option(
        "--split-rule",
        metavar="RULE",
        help="official, chexnet, patient, shards, or a patient_id,split table: once, or once per --data.  "
        "[default: each model's own; of other data the shards']",
        show_default=False,
    ),
]

CalibrationMethod = Literal["none", "temperature", "platt", "isotonic"]
Models = Annotated[
    list[str], typer.Argument(metavar="MODEL...", help="Folders, or USER/REPO[@REV]; several are averaged too.")
]
ChooseOn = Annotated[
    str,
    typer.Option(
        help="Split that thresholds and calibration are chosen on; model: those it was published with; none."
    ),
]
Weights = Annotated[Literal["equal", "validation"], typer.Option(help="Of several models: equal, or fitted.")]
ExpertLabels = Annotated[
    Path | None, typer.Option(help="Other labels of these images, CSV or CSV.gz.", show_default=False)
]
ExternalLabels = Annotated[
    Path | None, typer.Option(help="Labels of another set, CSV or CSV.gz.", show_default=False)
]
ExternalImages = Annotated[Path | None, typer.Option(help="Folder of the --external images.", show_default=False)]
ExternalMap = Annotated[
    str | None, typer.Option(help="chexpert, mimic, padchest, vindr, or a YAML file like these.", show_default=False)
]


def evaluate(
    models: Models,
    data: Data,
    out: Annotated[Path, typer.Option(help="Folder for metrics.json, predictions.parquet and report.html.")],
    split: Split = None,
    split_rule: SplitRules = None,
    choose_on: ChooseOn = "validation",
    rule: Rule = "f1",
    calibration: Annotated[CalibrationMethod, typer.Option(help="How to calibrate probabilities.")] = "platt",
    tta: Annotated[
        Tta, typer.Option(help="Also measure the mean over views of each image; views: as it is, flipped, ±7°.")
    ] = "none",
    weights: Weights = "equal",
    expert: ExpertLabels = None,
    expert_map: Annotated[str, typer.Option(help="Label map of --expert.")] = "google2019",
    external: ExternalLabels = None,
    images: ExternalImages = None,
    label_map: ExternalMap = None,
    resamples: Resamples = 1000,
    seed: Seed = 0,
    precision: Annotated[Precision, typer.Option(help="To compute in.")] = "auto",
    on: On = "here",
    address: Address = "",
    workers: Workers = None,
) -> None:
    """Measure models on one dataset or several: tables with intervals, a report, and the predictions themselves."""
    from chexvision.hub.reference import parse_reference, short_names
    from chexvision.label_maps.label_map import read_label_map
    from chexvision.metrics.records import IntervalMethod
    from chexvision.metrics.thresholds import check_rule

    check_rule(rule)
    refuse_workers(on, workers)
    if external is not None and on == "ray":
        raise UsageError("--external is for --on here; build shards of its images, and name them with another --data")
    if len({external is None, images is None, label_map is None}) > 1:
        raise UsageError("another set needs all of --external CSV, --images DIR and --label-map MAP")
    if len(set(models)) < len(models):
        raise UsageError("a model is named twice; name each once")
    references = [parse_reference(model) for model in models]
    sources = [parse_reference(one) for one in data]
    splits, rules = _per_data(split, "test", data, "--split"), _per_data(split_rule, None, data, "--split-rule")
    other = (external, images, label_map, read_label_map(label_map)) if external and images and label_map else None
    against = (expert, expert_map, read_label_map(expert_map)) if expert else None

    from chexvision.cli.clusters.compute import computing
    from chexvision.console import LiteralConsole
    from chexvision.evaluation.evaluate import evaluate as run
    from chexvision.evaluation.outcome import FurtherData, Options
    from chexvision.explain.mistake_maps import explain_mistakes
    from chexvision.provenance import now
    from chexvision.report.evaluation_tables import print_evaluation
    from chexvision.report.html import refuse_other_content, write_report

    refuse_other_content(out)
    options = Options(
        split=splits[0],
        split_rule=rules[0],
        choose_on=None if choose_on == "none" else choose_on,
        rule=rule,
        calibration=calibration,
        tta=tta,
        weights=weights,
        method=IntervalMethod(resamples=resamples, seed=seed),
        expert=against,
        external=other,
        further=tuple(FurtherData(*of) for of in list(zip(sources, splits, rules, strict=True))[1:]),
    )
    with computing(on, out, address, workers, precision) as compute:
        outcome = run(short_names(models), references, sources[0], options, compute)
        console = LiteralConsole()
        print_evaluation(console, outcome.evaluation)
        write_report(outcome, out, now(), explain_mistakes(outcome))
    console.print(f"written: {out}/report.html, metrics.json, predictions.parquet", soft_wrap=True)


def _per_data(given: list[str] | None, usual: T, data: list[str], option: str) -> list[str | T]:
    """The value of an option for each dataset."""
    if given is None or not given:
        return [usual] * len(data)
    if len(given) == 1:
        return [*given] * len(data)
    if len(given) != len(data):
        raise UsageError(f"{len(given)} {option} for {len(data)} --data; give it once, or once per --data")
    return [*given]


def compare(
    results: Annotated[
        list[Path],
        typer.Argument(
            metavar="A B...",
            help="Folders of `evaluate`, predictions.parquet, or (with --labels) CSV files.",
        ),
    ],
    labels: Annotated[
        Path | None, typer.Option(help="Data_Entry_2017*.csv[.gz], for CSV files.", show_default=False)
    ] = None,
    out: Annotated[Path | None, typer.Option(help="JSON file for the comparisons.", show_default=False)] = None,
    resamples: Resamples = 1000,
    seed: Seed = 0,
) -> None:
    """Compare each further model with the first, image by image."""
    from chexvision.console import LiteralConsole
    from chexvision.evaluation.outcome import Comparisons
    from chexvision.evaluation.protocol import with_tta
    from chexvision.files.atomic import write_text_atomic
    from chexvision.hub.reference import short_names
    from chexvision.metrics.compare import compare as run
    from chexvision.metrics.literature import compare_with_literature
    from chexvision.metrics.measure import measure
    from chexvision.metrics.records import IntervalMethod
    from chexvision.nih.metadata import read_metadata
    from chexvision.report.evaluation_tables import comparison_table, literature_table
    from chexvision.report.table import print_table

    if len(results) < 2:
        raise UsageError("name two or more results to compare")
    entries = read_metadata(labels) if labels else None
    predictions = [_predictions(path, entries) for path in results]
    inputs, notes = zip(*map(_input, results), strict=True)
    names = [
        with_tta(name, of.tta or "none")
        for name, of in zip(short_names([str(path) for path in results]), inputs, strict=True)
    ]
    method = IntervalMethod(resamples=resamples, seed=seed)
    console = LiteralConsole()
    comparisons = []
    for name, other in zip(names[1:], predictions[1:], strict=True):
        comparisons.append(run(predictions[0], other, method, (names[0], name)))
        print_table(console, comparison_table(comparisons[-1]))
    for note in dict.fromkeys(chain(*notes)):
        console.print(f"note: {note}")
    for name, of in zip(names, predictions, strict=True):
        metrics = measure(of)
        published = compare_with_literature(metrics)
        if published:
            print_table(console, literature_table(published, metrics, name))
    if out is not None:
        made = Comparisons(inputs=inputs, comparisons=tuple(comparisons))
        write_text_atomic(out, made.model_dump_json(indent=1) + "\n")


def score(
    predictions: Annotated[
        Path,
        typer.Argument(
            metavar="PREDICTIONS",
            help="CSV or Parquet with names of images and a column per finding, or results of predict.",
        ),
    ],
    labels: Annotated[Path, typer.Option(help="Data_Entry_2017*.csv, plain or .gz.")],
    split_rule: Annotated[
        str | None,
        typer.Option(
            "--split-rule", metavar="RULE", help="official, chexnet, or a patient_id,split table.", show_default=False
        ),
    ] = None,
    split: Annotated[str, typer.Option(help="With --split-rule: the split to predict completely.")] = "test",
    validation: Annotated[
        Path | None,
        typer.Option(help="Predictions of other images, to choose thresholds on.  [default: 0.5 for all]"),
    ] = None,
    rule: Rule = "f1",
    calibration: Annotated[CalibrationMethod, typer.Option(help="Fitted on --validation.")] = "none",
    out: Annotated[Path | None, typer.Option(help="JSON file for all metrics.", show_default=False)] = None,
    resamples: Resamples = 1000,
    seed: Seed = 0,
) -> None:
    """Measure any system's predictions for the release's images, with intervals."""
    from chexvision.console import LiteralConsole
    from chexvision.evaluation.score import score as run
    from chexvision.files.atomic import write_text_atomic
    from chexvision.metrics.records import IntervalMethod
    from chexvision.metrics.thresholds import check_rule
    from chexvision.nih.metadata import read_metadata
    from chexvision.report.evaluation_tables import print_evaluation

    check_rule(rule)
    if validation is None and calibration != "none":
        raise UsageError("--calibration is fitted on other images; name their predictions with --validation")
    found = run(
        predictions,
        read_metadata(labels),
        IntervalMethod(resamples=resamples, seed=seed),
        split_rule=split_rule,
        split=split,
        validation=validation,
        rule=rule,
        calibration=calibration,
    )
    console = LiteralConsole()
    print_evaluation(console, found)
    if out is not None:
        write_text_atomic(out, found.model_dump_json(indent=1) + "\n")


def _predictions(path: Path, entries: dict[str, Entry] | None) -> Predictions:
    from chexvision.evaluation.submission import read_submission
    from chexvision.inference.predictions_file import read_predictions

    if path.is_dir():
        path = path / "predictions.parquet"
    if path.suffix == ".parquet":
        return read_predictions(path)
    if entries is None:
        raise UsageError(f"{path} has no labels of its own; name them with --labels Data_Entry_2017_v2020.csv")
    return read_submission(path, entries).predictions


def _input(path: Path) -> tuple[CompareInput, list[str]]:
    """What an evaluation records of the images that are compared, and notes on its models' training on them."""
    from chexvision.artifact.contents import METRICS
    from chexvision.artifact.metrics_file import read_metrics
    from chexvision.evaluation.outcome import CompareInput
    from chexvision.evaluation.overlap import notes_of

    # Only `evaluate` writes these two next to each other; a metrics.json next to another file is of something else.
    folder = path if path.is_dir() else path.parent if path.name == "predictions.parquet" else None
    if folder is None or not (folder / METRICS).is_file():
        return CompareInput(), []
    try:
        found = read_metrics(folder / METRICS)
    except ChexError as error:
        why = str(error).removeprefix(f"{folder / METRICS} ")
        unknown = "whether its models were trained on these images is unknown"
        return CompareInput(), [f"{folder / METRICS} cannot be read ({why}): {unknown}"]
    overlaps = tuple(of for of in found.overlaps if of.dataset is None)
    notes = [note for of in overlaps if of.split == found.split for note in notes_of(of, f"of {path}")]
    tta = found.systems[-1].tta
    return CompareInput(split=found.split, tta=tta, division=found.division, overlaps=overlaps), notes
