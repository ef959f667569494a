"""The seeds of a recipe, published as one ensemble."""

from __future__ import annotations

from pathlib import Path

from chexvision.hub.reference import Reference, parse_reference
from chexvision_dispatch.studies.results import artifact_of
from chexvision_dispatch.studies.scheduler import Scheduler


def publish_ensemble(scheduler: Scheduler, folder: Path | None, default: Path) -> str | None:
    """Publish the models of all seeds as one ensemble, once.

    Args:
        scheduler: of the seeds, whose runs have ended.
        folder: where the ensemble goes; None for the repository that its members were published to.
        default: the folder for it where they were published nowhere.

    Returns:
        Where it is: ``USER/REPO@<sha>`` or a folder; None where a run failed, so that there is none.

    Raises:
        ChexError: it could not be made or published; see `assemble_ensemble`.
    """
    from chexvision.report.ensemble_artifact import assemble_ensemble

    if scheduler.state.state.ensemble is not None:
        return scheduler.state.state.ensemble
    views = [standing.view for standing in scheduler.standings.values() if standing.view is not None]
    if any(view.status != "complete" for view in views):
        return None
    members = [artifact_of(view) for view in views]
    common = views[0].record.to
    to: Reference = folder or (parse_reference(common) if common is not None else default)
    made = assemble_ensemble(members, to, private=scheduler.where.private)
    scheduler.state.change(ensemble=made.reference)
    return made.reference
