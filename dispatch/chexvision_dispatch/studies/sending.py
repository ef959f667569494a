"""Sending a study's runs: each is a dispatch like any other, to a destination of its own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from chexvision.errors import UsageError
from chexvision.hub.reference import parse_reference
from chexvision.provenance import new_run_id, slug
from chexvision.recipes import with_datasets
from chexvision.shards.manifest import Manifest
from chexvision_dispatch import submit
from chexvision_dispatch.gpu_hours import gpu_hours
from chexvision_dispatch.resolve import described_split, destination, manifest_of, on_datasets, pinned_data
from chexvision_dispatch.run_records import runs_dir
from chexvision_dispatch.studies.study_file import Study, StudyRun
from chexvision_dispatch.studies.study_state import StateFile
from chexvision_dispatch.targets.registry import new_target, target_class
from chexvision_dispatch.targets.target import GpuHours, Quota, Target


@dataclass(frozen=True, slots=True)
class Destination:
    """Where a study's runs are sent to, and where they publish.

    Args:
        on: the target.
        given: its options that were typed, by name.
        data: the dataset of all runs in place of their recipes' own, as it was typed.
        to: the repository or the folder that they publish to, as it was typed.
        private: whether a repository that has to be created is visible to its owner alone.
        force: send runs whatever is left of a quota.
    """

    on: str
    given: Mapping[str, object]
    data: str | None = None
    to: str | None = None
    private: bool = False
    force: bool = False

    def target(self, run_id: str, *, dry_run: bool = False) -> Target:
        """The target of a new run."""
        return new_target(self.on, self.given, run_id, dry_run=dry_run)


@dataclass(frozen=True, slots=True)
class Datasets:
    """What a study trains on.

    Args:
        pinned: each dataset at its commit, or a folder's absolute path, by what was asked for.
        of: those of each run by its name: one, or those of its recipe's mixture in its order.
        notes: what the user should know.
    """

    pinned: Mapping[str, str]
    of: Mapping[str, tuple[str, ...]]
    notes: tuple[str, ...]

    def key(self, run: StudyRun) -> str:
        """Of a run in the study's state."""
        return run.key(" + ".join(self.of[run.name]))


def check_data(study: Study, where: Destination, known: Mapping[str, str]) -> Datasets:
    """Pin the study's datasets, and check that every recipe fits its images.

    Args:
        study: the study.
        where: it is to run.
        known: the commits that were pinned when the study began.

    Raises:
        UsageError: a recipe does not fit the data.
        ChexError: see `pinned_data`.
    """
    here = target_class(where.on).is_here
    if where.data is not None and any(run.left_out for run in study.runs):
        raise UsageError(f"--data {where.data}: this study leaves out data sets of its recipe; leave --data out")
    pinned, notes = dict(known), list[str]()
    manifests: dict[str, Manifest | None] = {}
    divided: set[tuple[str, str, float]] = set()
    of = {}
    for run in study.runs:
        recipe = run.recipe if where.data is None else with_datasets(run.recipe, [where.data])
        for one in recipe.data.named:
            if one.name not in pinned:
                pinned[one.name], more = pinned_data(one.name, folders=here)
                notes += more
            data, config = pinned[one.name], recipe.data.alone(one)
            if data not in manifests:
                manifests[data] = manifest_of(data)
            manifest = manifests[data]
            try:
                if manifest is not None:
                    config.check_fits(manifest.size, data)
                division = data, config.split, config.validation_share
                if division not in divided:  # the same check for most runs, a third of a second each
                    described_split(config, manifest)
                    divided.add(division)
            except UsageError as error:
                raise UsageError(f"{run.name}: {error}") from None
        of[run.name] = tuple(pinned[one.name] for one in recipe.data.named)
    return Datasets(pinned, of, tuple(notes))


def estimate(run: StudyRun, where: Destination) -> GpuHours | None:
    """GPU hours of a run; None where the target counts none."""
    target = where.target(new_run_id(run.name), dry_run=True)
    return gpu_hours(run.recipe, target) if target.has_quota else None


def quota_of(where: Destination) -> Quota | None:
    """What is left of the week's GPU hours; None where the target counts none.

    Raises:
        ChexError: the target does not answer.
    """
    return where.target(new_run_id("quota"), dry_run=True).quota()


def send(
    study: Study, run: StudyRun, where: Destination, data: Sequence[str], state: StateFile, key: str
) -> Sequence[str]:
    """Send a run that was not sent before; its id is in the study's state before anything is.

    Args:
        study: the study.
        run: one of it.
        where: to run it.
        data: its datasets at their commits.
        state: receives the run's id.
        key: of the run there.

    Returns:
        What the user should know.

    Raises:
        Refused: the target has no room, or the week's quota is not enough; no run exists.
        ChexError: see `submit.training` and `submit.submit`.
    """
    run_id = new_run_id(f"{study.name}-{run.name}")
    target = where.target(run_id)
    needs = GpuHours()
    if target.has_quota:
        # A study does not begin what the week may not finish: a guess refuses as a measurement does.
        needs = replace(gpu_hours(run.recipe, target), measured=True, force=where.force)
    notes = target.check(needs)
    folder = (target.options.home or runs_dir() / run_id) / "kernel"
    to = _published_to(study, run, where, target)
    one = data[0] if len(data) == 1 else None
    request = submit.Request(run.model, run.preset, run.overrides, one, to, where.private)
    job = submit.training(request, on_datasets(run.recipe, data), target)
    prepared = submit.prepare(job, target, run_id, folder)
    state.plan(key, run_id)
    notes += [*job.notes, *submit.write(prepared, target, folder)]
    return [*notes, *submit.submit(prepared, target, folder)[1]]


def _published_to(study: Study, run: StudyRun, where: Destination, target: Target) -> str | None:
    """Where a run publishes: all to one repository, each with a tag of its own, or to folders next to each other."""
    to = where.to or destination(None, study.published_as, folders=target.is_here)
    if to is None or not isinstance(parse_reference(to), Path):
        return to
    return str(Path(to).expanduser() / slug(run.name))
