"""The status of a run, as lines of text."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from chexvision_dispatch.view import RunView

_BARS = "▁▂▃▄▅▆▇█"


def lines(view: RunView) -> list[str]:
    record, session = view.record, view.session
    number = len(record.sessions)
    rows = [
        ("run", f"{record.run_id} on {record.target}, session {number}"),
        ("status", f"{view.status}{': ' if view.message else ''}{view.message}"),
        ("epoch", _epoch(view)),
        ("images", _images(view)),
        ("best", _best(view)),
        ("curve", curve([point.macro_auroc for point in view.progress.points]) if view.progress else ""),
        ("page", session.page if session and session.page else ""),
        ("data", record.data),
        ("to", record.published or record.to or ""),
        *(("log", line) for line in view.failing),
        *(("unread", why) for why in view.unread),
        ("next", next_step(view)),
    ]
    return [f"{name:7}{text}" for name, text in rows if text]


def _epoch(view: RunView) -> str:
    progress = view.progress
    if progress is None or not progress.epochs:
        return ""
    return f"{progress.epoch} of {progress.epochs}{_left(view)}"


def _images(view: RunView) -> str:
    progress = view.progress
    if progress is None or not progress.images:
        return ""
    return f"{progress.images_done:,} of {progress.images:,} in finished shards{_left(view)}"


def _left(view: RunView) -> str:
    from chexvision.progress import duration

    seconds = view.progress.seconds_left if view.progress is not None else None
    return f", about {duration(seconds)} left" if seconds and not view.ended else ""


def _best(view: RunView) -> str:
    progress = view.progress
    if progress is None or progress.best_macro_auroc is None:
        return ""
    return f"macro AUROC {progress.best_macro_auroc:.4f} in epoch {progress.best_epoch}"


def in_short(view: RunView) -> str:
    epoch, images = _epoch(view), _images(view)
    parts = [f"epoch {epoch}" if epoch else "", f"images {images}" if images else "", _best(view)]
    return " · ".join(part for part in parts if part)


def curve(values: list[float | None]) -> str:
    """The values as a row of bars with the lowest and the highest next to it; gaps where there is none."""
    known = [value for value in values if value is not None]
    if len(known) < 2:
        return ""
    low, high = min(known), max(known)
    scale = (len(_BARS) - 1) / (high - low) if high > low else 0.0
    bars = "".join(" " if value is None else _BARS[round((value - low) * scale)] for value in values)
    return f"{bars}  {low:.4f} … {high:.4f}"


def next_step(view: RunView) -> str:
    """The command that leads on, or what to do where none does; empty where nothing is left to do."""
    record = view.record
    if view.status in ("paused", "unsent"):
        return f"chexvision runs resume {record.run_id}"
    if view.status in ("failed", "cancelled"):
        return _after_failure(view)
    waits = view.status == "unpublished" or (
        view.status == "complete" and record.to is not None and record.published is None
    )
    return f"chexvision runs collect {record.run_id}" if waits else ""


def _after_failure(view: RunView) -> str:
    record, progress = view.record, view.progress
    reason = progress.stop_reason if progress is not None and view.is_current else None
    resume = f"chexvision runs resume {record.run_id}"
    if progress is None or not progress.state:
        if reason == "error":
            return "fix that and dispatch again; another session of this run would fail in the same way"
    elif _is_out_of_reach(view):
        return f"chexvision runs collect {record.run_id}, which downloads its state"
    ended_before_it_began = view.status == "failed" and not view.is_current and bool(view.errors)
    return f"once that is fixed: {resume}" if reason == "not_allowed" or ended_before_it_began else resume


def _is_out_of_reach(view: RunView) -> bool:
    from chexvision.errors import ChexError
    from chexvision.retry import single_attempt
    from chexvision_dispatch.recover import is_out_of_reach
    from chexvision_dispatch.view import target_of

    try:
        with single_attempt():
            return is_out_of_reach(view, target_of(view.record))
    except ChexError:  # `runs resume` asks again, and reports what it lacks
        return False
