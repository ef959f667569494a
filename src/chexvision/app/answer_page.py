"""What the Gradio app says about an answer, as HTML."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from html import escape
from itertools import groupby

from chexvision.foreign import printable
from chexvision.labels import ABNORMAL
from chexvision.predict.answer import Answer, ModelFacts
from chexvision.predict.result import Result
from chexvision.runtime.export_info import ExportInfo, ThresholdResult

RESEARCH_ONLY = "For research only; not a medical device. Not for decisions about patients."

_NEAR = 2.0  # as on the static page: below its threshold, with at least half the odds of it, is near
_GROUPS = {
    "above": "At or above the threshold",
    "near": "Near the threshold: below, with at least half its odds",
    "below": "Below the threshold",
    "unknown": "Without a threshold",
}
STYLE = """
.cv table {width: 100%; border-collapse: collapse}
.cv th, .cv td {padding: .3rem .4rem; text-align: right; vertical-align: top}
.cv th:first-child, .cv td:first-child {text-align: left}
.cv td small {display: block; font-weight: normal}
.cv p, .cv code {overflow-wrap: anywhere}
.cv th[colspan] {padding-top: .9rem; border-bottom: 1px solid currentColor}
.cv thead th {font-weight: normal; font-size: .85em}
.cv tr.above td:nth-child(-n + 2) {font-weight: bold}
.cv p {margin: .6rem 0}
.cv .notice {border-left: .3rem solid #c2410c; padding: .4rem .7rem; background: #c2410c1f}
.cv .small {font-size: .85em}
"""


@dataclass(frozen=True, slots=True)
class About:
    """The model of an app, for its readers.

    Args:
        facts: name, revision, and what to know of every answer.
        export: its ``onnx/model.json``; None of one that was not exported.
        url: its page; None where it has none.
    """

    facts: ModelFacts
    export: ExportInfo | None = None
    url: str | None = None


def answer_html(answer: Answer, about: About) -> str:
    """The table of an answer, in groups by the thresholds, after everything that makes it doubtful."""
    test = about.export.test if about.export else {}
    grouped = sorted(answer.probabilities, key=lambda name: _place(answer, name))
    rows: list[str] = []
    for group, names in groupby(grouped, lambda name: _group(answer, name)):
        rows.append(f'<tr><th colspan="3" scope="rowgroup">{_GROUPS[group]}</th></tr>')
        rows += [_row(answer, name, group, test.get(name)) for name in names]
    heads = ("finding", "probability", "threshold")
    table = "".join(f'<th scope="col">{head}</th>' for head in heads)
    return _block(
        *_notices(about.facts.notices),
        *_notices(answer.warnings, "Check of the image: "),
        f"<table><thead><tr>{table}</tr></thead><tbody>{''.join(rows)}</tbody></table>",
        *(f'<p class="small">{escape(text)}</p>' for text in _meaning(about)),
        *(f'<p class="small">The image: {escape(printable(note))}.</p>' for note in answer.notes),
        f'<p class="small">{escape(RESEARCH_ONLY)}</p>',
    )


def rows_html(results: Sequence[Result], facts: ModelFacts) -> str:
    """A summary of a batch: how many images were called positive, and the reasons of those without an answer."""
    answered = [one for one in results if one.status == "ok"]
    lines = [f"<p>{len(answered):,} of {len(results):,} images have an answer.</p>"]
    if answered:
        called = {name: sum(one.calls.get(name, False) for one in answered) for name in answered[0].calls}
        cells = "".join(f"<tr><td>{escape(name)}</td><td>{count:,}</td></tr>" for name, count in called.items())
        heads = '<th scope="col">at or above the threshold</th><th scope="col">images</th>'
        lines.append(f"<table><thead><tr>{heads}</tr></thead><tbody>{cells}</tbody></table>")
    flagged = sum(bool(one.warnings) for one in answered)
    if flagged:
        lines.append(f'<p class="notice">{flagged:,} images have warnings; see the column of the table.</p>')
    failed = [one for one in results if one.status != "ok"]
    lines += [f"<p>{escape(one.image)}: {escape(one.reason or '')}</p>" for one in failed]
    return _block(*_notices(facts.notices), *lines, f'<p class="small">{escape(RESEARCH_ONLY)}</p>')


def model_html(about: About) -> str:
    """What is known of the model, as a list."""
    facts, info = about.facts, about.export
    listed = {
        "Model": facts.model,
        "Revision": facts.revision or "unknown",
        "Trained on": (info.data if info else None) or ("synthetic images" if facts.synthetic else "unknown"),
        "Probabilities": "calibrated" if facts.calibrated else "not calibrated",
        "Thresholds": facts.rule or "none",
        "Measured on": (info.test_set if info else None) or "unknown",
    }
    rows = "".join(f"<tr><td>{name}</td><td>{escape(printable(value))}</td></tr>" for name, value in listed.items())
    link = f'<p><a href="{escape(about.url)}">{escape(about.url)}</a></p>' if about.url else ""
    return _block(*_notices(facts.notices), f"<table><tbody>{rows}</tbody></table>", link)


def scale_html(name: str, method: str, largest: float, scale: float) -> str:
    """What the colors of a map mean, in words: they are its text for those who do not see it."""
    shown = escape(name.replace("_", " "))
    if largest <= 0:
        return _block(f"<p>{method}: nothing in this image raises {shown}.</p>")
    return _block(
        f"<p>{method}: what raises {shown}, by up to {largest:.3g} logit units. Yellow is {scale:.3g}, the largest "
        "value of all findings in this image.</p>"
    )


def header_html(about: About) -> str:
    """The title, the model, and what to know before any answer."""
    notices = "".join(_notices(about.facts.notices))
    return _block(f"<p>{escape(RESEARCH_ONLY)} Model: <code>{escape(str(about.facts))}</code></p>", notices)


def _block(*parts: str) -> str:
    return f'<div class="cv">{"".join(parts)}</div>'


def _notices(texts: Sequence[str], before: str = "") -> Iterator[str]:
    return (f'<p class="notice">{escape(before + printable(text))}</p>' for text in texts)


def _row(answer: Answer, name: str, group: str, test: ThresholdResult | None) -> str:
    threshold = answer.thresholds.get(name)
    measured = {"sensitivity": test.sensitivity, "specificity": test.specificity} if test else {}
    shares = ", ".join(f"{word} {value:.2f}" for word, value in measured.items() if value is not None)
    title = escape(f"{name.replace('_', ' ')} (any finding)" if name == ABNORMAL else name.replace("_", " "))
    cells = [
        f"{title}<small>{shares}</small>" if shares else title,
        _percent(answer.probabilities[name]),
        "" if threshold is None else _percent(threshold),
    ]
    return f'<tr class="{group}">{"".join(f"<td>{cell}</td>" for cell in cells)}</tr>'


def _meaning(about: About) -> Iterator[str]:
    facts, info = about.facts, about.export
    if facts.rule:
        yield (
            f"Each finding has its own threshold ({printable(facts.rule)}). Most findings are rare, so a probability "
            "well below 50 % can be above its threshold."
        )
    if info is not None and info.test:
        yield (
            "Sensitivity: the share of images with the finding that reach the threshold. Specificity: the share of "
            f"images without it that do not. Measured on {printable(info.test_set or 'the test split')}."
        )


def _group(answer: Answer, name: str) -> str:
    threshold, probability = answer.thresholds.get(name), answer.probabilities[name]
    if threshold is None:
        return "unknown"
    if probability >= threshold:
        return "above"
    return "near" if _NEAR * _odds(probability) >= _odds(threshold) else "below"


def _place(answer: Answer, name: str) -> tuple[int, bool, float]:
    """By group; in each the binary output first, then the most probable."""
    return [*_GROUPS].index(_group(answer, name)), name != ABNORMAL, -answer.probabilities[name]


def _odds(probability: float) -> float:
    return probability / (1 - probability) if probability < 1 else float("inf")


def _percent(value: float) -> str:
    """With one decimal, or two near 0 and 1, as on the static page."""
    percent = 100 * value
    if 0 < percent < 0.01:
        return "&lt;0.01&nbsp;%"
    if 99.99 < percent < 100:
        return "&gt;99.99&nbsp;%"
    return f"{percent:.{2 if percent < 1 or percent > 99 else 1}f}&nbsp;%"
