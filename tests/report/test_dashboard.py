"""The page of many runs: complete, the same for the same runs, and safe whatever the runs published."""

from __future__ import annotations

import io
import json
import re
import struct
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from chexvision.artifact.find_published import find_published, read_all_published
from chexvision.artifact.published_run import PublishedRun, read_curve, read_published
from chexvision.console import LiteralConsole
from chexvision.errors import ChexError, UsageError
from chexvision.evaluation.many_runs.run_comparison import RunComparison, compare_runs
from chexvision.report.many_runs import dashboard
from chexvision.report.many_runs.comparison_text import print_run_comparison
from chexvision.report.many_runs.curves import Series, overlay
from chexvision.report.many_runs.dashboard import PAGE, render_dashboard, write_dashboard
from chexvision.report.svg import svg_text
from chexvision.report.wording import number
from tests.present import present
from tests.published_runs import change, epoch_entry, write_run
from tests.report.test_rendering import HOSTILE


class Page(HTMLParser):
    """The rows of the first table, all tags, and the attributes that could run or load something."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.risky: list[tuple[str, str | None]] = []
        self.rows: dict[str, list[str]] = {}
        self._row: list[str] | None = None
        self.tables = 0
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.risky += [(name, value) for name, value in attrs if name in ("src", "href") or name.startswith("on")]
        self.tables += tag == "table"
        if tag == "tr" and self.tables == 1:
            self._row = []
        elif tag == "td" and self._row is not None:
            self._row.append("")

    def handle_endtag(self, tag: str) -> None:
        if tag == "tr" and self._row:
            self.rows[self._row[0]] = self._row
            self._row = None

    def handle_data(self, data: str) -> None:
        if self._row:
            self._row[-1] += data.strip()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three runs: two of the same images, and one whose records are damaged."""
    out = tmp_path_factory.mktemp("runs")
    write_run(out / "one", noise=0.1, curve=(0.6, 0.75, 0.7), finished_at="2026-01-02T03:04:05+00:00")
    write_run(out / "two", recipe="swin-t", noise=0.3, seed=1, finished_at="2026-03-02T03:04:05+00:00")
    write_run(out / "odd", noise=0.2)
    (out / "odd" / "history.json").write_text('[{"epoch": "<b>1</b>"}]')
    (out / "odd" / "metrics.json").unlink()
    return out


def runs_of(*folders: Path) -> list[PublishedRun]:
    return [read_published(path.name, path) for path in folders]


@pytest.fixture(scope="module")
def page(folder: Path) -> str:
    return render_dashboard(runs_of(*sorted(folder.iterdir())), "Runs of chex")


def test_each_run_is_a_row_with_what_its_records_say_the_newest_first(page: str) -> None:
    rows = Page(page).rows
    assert list(rows)[:2] == ["two", next(name for name in rows if name.startswith("odd"))]
    one = rows["one"]
    assert one[1] == "A" and one[4:9] == ["2026-01-02", "densenet", one[6], "chex/xrays", "shards"]
    assert one[9:] == ["3 of 3", "", "1.50"]


def test_each_run_has_its_own_figures_with_the_letter_of_their_test_set(folder: Path, page: str) -> None:
    rows = Page(page).rows
    runs = runs_of(folder / "one", folder / "two")
    for run in runs:
        metrics = present(run.metrics).metrics
        binary = present(metrics.binary)["auroc"]
        assert rows[run.name][2:4] == [f"{number(metrics.macro['auroc'])}A", f"{number(binary)}A"]
        heat = page[page.index("<h2>AUROC by finding</h2>") :]
        heat = heat[heat.index(f"<td>{run.name}</td>") :]
        heat = heat[: heat.index("</tr>")]
        shown = re.findall(r"<td[^>]*>([^<]*)</td>", heat)
        values = [present(of["auroc"].value) for of in metrics.findings.values()]
        assert shown == [run.name, "A", *(f"{value:.3f}" for value in values)]
        shares = re.findall(r"--share:([^']+)'", heat)  # of the color, from an AUROC of 0.5 to 1
        assert [*map(float, shares)] == pytest.approx([2 * value - 1 for value in values], abs=1e-3)
    assert rows["one"][2:4] != rows["two"][2:4]


def test_charts_have_the_curves_of_each_run_under_its_number(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = write_run(tmp_path / "other", finished_at="2026-02-02T00:00:00+00:00")
    entries = [
        epoch_entry(i, auroc) | {"train_loss": 9, "validation_loss": i / 10} for i, auroc in ((1, 0.5), (2, None))
    ]
    (other / "history.json").write_text(json.dumps(entries))
    made: dict[str, dict[str, tuple[int, list[tuple[int, float]]]]] = {}

    def kept(heading: str, label: str, series: list[Series]) -> None:
        made[label] = {of.name: (of.number, list(of.points)) for of in series}

    monkeypatch.setattr(dashboard, "overlay", kept)
    page = render_dashboard([*runs_of(folder / "one", folder / "two"), read_published("other", other)], "t")
    numbers = dict(re.findall(r"<tr data-run='(\d)'[^>]*><td data-key='(\w+)'", page))
    assert numbers == {"0": "two", "1": "other", "2": "one"}
    assert made["macro AUROC"]["other"] == (1, [(1, 0.5)])
    assert made["loss"]["other"] == (1, [(1, 0.1), (2, 0.2)])
    assert made["macro AUROC"]["one"] == (2, [(1, 0.6), (2, 0.75), (3, 0.7)])


def test_the_kept_epoch_and_the_parameters_are_those_of_the_records(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run")
    change(run / "metrics.json", lambda of: of.update(epoch=2))
    shapes = {"a": {"dtype": "F32", "shape": [30, 40, 1000]}, "b": {"dtype": "F32", "shape": [300_000]}}
    header = json.dumps({"__metadata__": {}, **shapes}).encode()
    (run / "model.safetensors").write_bytes(struct.pack("<Q", len(header)) + header)
    row = Page(render_dashboard(runs_of(run), "t")).rows["run"]
    assert row[9:11] == ["2 of 3", "1.5 M"]


def test_a_damaged_record_costs_its_own_row_and_names_the_reason(page: str) -> None:
    odd = next(cells for name, cells in Page(page).rows.items() if name.startswith("odd"))
    assert "history.json is not a history of epochs: 0.epoch" in odd[0] and "it has no metrics.json" in odd[0]
    assert odd[5] == "densenet" and odd[1:4] == ["", "", ""] and odd[9] == ""


def test_runs_of_other_images_have_another_test_set(folder: Path, tmp_path: Path) -> None:
    other = write_run(tmp_path / "other")
    change(other / "metrics.json", lambda of: of["systems"][0]["metrics"].update(images_sha256="c" * 64))
    same = write_run(tmp_path / "synthetic")
    change(same / "metrics.json", lambda of: of.update(synthetic=True, dataset_identity="d" * 64))
    labels = write_run(tmp_path / "labels")
    change(labels / "metrics.json", lambda of: of["systems"][0]["metrics"]["findings"]["Mass"].update(unknown=7))
    page = render_dashboard(runs_of(folder / "one", folder / "two", other, same, labels), "t")
    rows = Page(page).rows
    letters = {name: cells[1] for name, cells in rows.items()}
    assert letters["one"] == letters["two"]
    assert len({letters["one"], letters["other"], letters["synthetic"], letters["labels"]}) == 4
    assert letters["synthetic"].endswith(" synthetic") and "synthetic, or partly, which say nothing" in page


def test_equal_runs_give_equal_bytes_in_any_order(folder: Path, tmp_path: Path, page: str) -> None:
    runs = runs_of(*sorted(folder.iterdir()))
    path = write_dashboard(runs[::-1], tmp_path, "Runs of chex")
    assert path.read_text(encoding="utf-8") == page
    write_dashboard(runs, tmp_path, "Runs of chex")
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / PAGE).write_text("<p>mine")
    with pytest.raises(UsageError, match="is another page"):
        write_dashboard(runs, tmp_path / "mine", "t")


def test_nothing_outside_the_page_is_needed(page: str) -> None:
    found = Page(page)
    assert found.tags.isdisjoint({"link", "img", "iframe", "object", "base"})
    assert found.risky == []
    assert set(re.findall(r"https?://[^'\"\s<]+", page)) <= {"http://www.w3.org/2000/svg"}
    assert not re.search(r"url\(|@import", page)


def test_texts_of_runs_are_not_interpreted(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run")

    def hostile(of: Any) -> None:
        of["dataset"] = of["split_rule"] = HOSTILE
        metrics = of["systems"][0]["metrics"]
        metrics["findings"][HOSTILE] = metrics["findings"].pop("Edema")

    change(run / "metrics.json", hostile)
    change(run / "run.json", lambda of: of["recipe"].update(name="a"))
    change(run / "history.json", lambda of: of.append(epoch_entry(4, 2.0)))
    plain = Page(render_dashboard(runs_of(write_run(tmp_path / "b")), "t"))
    found = render_dashboard([read_published(HOSTILE, run)], HOSTILE)
    page = Page(found)
    assert page.tags <= plain.tags | {"p"} and page.risky == []
    assert "\x1b" not in found and "<img" not in found
    assert "7 * 7" in found and "49" not in "".join(page.rows)


def test_large_numbers_of_findings_and_long_texts_are_cut(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run")

    def many(of: Any) -> None:
        metrics = of["systems"][0]["metrics"]
        one = metrics["findings"]["Edema"]
        metrics["findings"] |= {f"{i}{'x' * 5_000}": one for i in range(300)}

    change(run / "metrics.json", many)
    page = render_dashboard(runs_of(run), "t")
    assert page.count("<th scope='col'>") < 70 and "more findings are not shown" in page
    assert "x" * 201 not in page


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("[]", "has no epoch"),
        ("{", "is not a history"),
        ("[" * 100_000, "is not a history"),
        ('[{"epoch": 1, "macro_auroc": 1.5, "train_loss": 1, "validation_loss": 1}]', "less than or equal to 1"),
        ('[{"epoch": 1, "train_loss": 1, "validation_loss": 1e999}]', "finite"),
        ('[{"epoch": 1, "train_loss": 1, "validation_loss": -1e308}]', "greater than or equal to -1000000000"),
        ('[{"epoch": 99999999999, "train_loss": 1, "validation_loss": 1}]', "less than or equal to 1000000"),
        (json.dumps([epoch_entry(i, 0.5) for i in range(1, 10_002)]), "at most 10000 items"),
    ],
)
def test_a_history_that_cannot_be_shown_is_refused(tmp_path: Path, text: str, reason: str) -> None:
    (tmp_path / "history.json").write_text(text)
    with pytest.raises(ChexError, match=reason):
        read_curve(tmp_path / "history.json")


@pytest.mark.parametrize(
    ("file", "key", "value", "reason"),
    [
        ("metrics.json", "value", 1e308, "AUROC of 1e+308 for the mean; it is in [0, 1]"),
        ("metrics.json", "interval", [-0.5, 0.9], "AUROC of -0.5 for the mean"),
        ("run.json", "train_seconds", 1e308, "train_seconds 1e+308"),
        ("run.json", "train_seconds", -1, "train_seconds -1"),
        ("run.json", "finished_at", "zzz", "finished_at 'zzz', which is not in ISO 8601"),
    ],
)
def test_a_record_with_an_impossible_value_is_not_shown(
    tmp_path: Path, file: str, key: str, value: object, reason: str
) -> None:
    run = write_run(tmp_path / "run")

    def impossible(of: Any) -> None:
        where = of if file == "run.json" else of["systems"][0]["metrics"]["macro"]["estimates"]["auroc"]
        where[key] = value

    change(run / file, impossible)
    found = read_published("run", run)
    assert len(found.problems) == 1 and found.problems[0].startswith(file) and reason in found.problems[0]
    assert (found.info if file == "run.json" else found.metrics) is None


def test_a_history_of_a_later_version_is_read_for_what_is_known(tmp_path: Path) -> None:
    mixture = {"datasets": {"nih": {"macro_auroc": 0.8, "more": 1}}, "more": {}}
    entries = [epoch_entry(2, None, more=3, mixture=mixture), epoch_entry(1, 0.7)]
    (tmp_path / "history.json").write_text(json.dumps(entries))
    first, second = read_curve(tmp_path / "history.json")
    assert (first.epoch, first.macro_auroc, second.macro_auroc) == (1, 0.7, None)
    assert second.mixture is not None and second.mixture.datasets["nih"].macro_auroc == 0.8


def test_a_chart_has_a_curve_for_each_run_within_its_axes() -> None:
    series = [Series(0, "a", [(1, 0.5), (2, 0.8)]), Series(9, "b", [(1, 0.7)])]
    svg = svg_text(present(overlay("Macro AUROC", "macro AUROC", series)))
    assert re.findall(r'<(\w+)[^>]*class="curve" data-run="(\d)"', svg) == [("circle", "9"), ("polyline", "0")]
    (points,) = re.findall(r'points="([^"]+)"', svg)
    (x1, y1), (x2, y2) = ([float(at) for at in point.split(",")] for point in points.split())
    assert x1 < x2 and y1 > y2 > 0
    assert overlay("t", "y", []) is None
    flat = present(overlay("t", "y", [Series(0, "a", [(1, 0.5), (2, 0.5)])]))
    assert "nan" not in svg_text(flat)


def test_datasets_of_a_mixture_have_a_table_of_their_own(folder: Path, tmp_path: Path, page: str) -> None:
    run = write_run(tmp_path / "mixed")

    def mixed(of: Any) -> None:
        metrics = json.loads(json.dumps(of["systems"][0]["metrics"]))
        metrics["macro"]["estimates"]["auroc"] = {"value": 0.123}
        part = {"dataset": "d", "dataset_identity": "a" * 64, "split": "test", "metrics": metrics}
        of["mixture"] = [{"name": name, **part} for name in ("nih", "chexpert")]

    change(run / "metrics.json", mixed)
    runs = [*runs_of(folder / "one"), read_published("mixed", run)]
    found = render_dashboard(runs, "t")
    table = found[found.index("<h2>Macro AUROC by dataset</h2>") :]
    assert re.findall(r"<th scope='col'>([^<]+)</th>", table) == ["run", "test set", "nih", "chexpert"]
    value = present(present(runs[1].metrics).mixture[0].metrics.macro_auroc)
    assert table.count(f">{value:.3f}</td>") == 2 and "one" not in table[: table.index("</table>")]
    assert "Macro AUROC by dataset" not in page
    text = render_comparison(compare_runs(runs, paired=False))
    assert re.search(rf"^macro, chexpert +– +{value:.3f} ", text, re.MULTILINE)


def render_comparison(found: RunComparison) -> str:
    file = io.StringIO()
    print_run_comparison(LiteralConsole(file=file, width=100), found)
    return file.getvalue()


def test_folders_are_found_once_and_in_order(folder: Path, tmp_path: Path) -> None:
    found = find_published([str(folder), str(folder / "one")], private=False)
    assert [path.name for path in map(Path, map(str, found))] == ["odd", "one", "two"]
    assert [run.name for run in read_all_published(found)] == ["odd", "one", "two"]
    with pytest.raises(UsageError, match="holds no published model"):
        find_published([str(tmp_path)], private=False)
    with pytest.raises(UsageError, match="is neither a folder here nor"):
        find_published([str(tmp_path / "gone")], private=False)


def test_no_run_is_a_page_as_well() -> None:
    assert "There is no published run." in render_dashboard([], "t")
