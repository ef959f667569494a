"""The report of a study: the same values in its table, its chart and its files, and what is missing is said."""

from __future__ import annotations

import subprocess
import sys
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest

from chexvision.errors import UsageError
from chexvision.evaluation.study_results import StudyMember, StudyResults, StudyVariant
from chexvision.metrics.records import Difference, Estimate, IntervalMethod
from chexvision.report.study_chart import study_chart
from chexvision.report.study_report import study_table, write_study
from tests.present import present
from tests.report.tables import table_html
from tests.report.test_rendering import HOSTILE


def member(seed: int, value: float | None, **changes: object) -> StudyMember:
    known = StudyMember(
        seed=seed,
        run_id=f"run-{seed}",
        status="complete",
        artifact=f"chex/study@{seed:040x}",
        macro_auroc=Estimate(value=value),
        epoch=seed,
        train_seconds=3600.0,
    )
    return known.model_copy(update=changes)


RESULTS = StudyResults(
    version="1.0",
    study="ablation",
    base="base",
    dataset=("chex/xrays@" + "4" * 40,),
    images=25_596,
    patients=2_797,
    interval=IntervalMethod(resamples=1000, seed=0),
    variants=(
        StudyVariant(
            name="base",
            members=(member(1, 0.812), member(2, 0.818)),
            macro_auroc=Estimate(value=0.815, interval=(0.807, 0.823)),
        ),
        StudyVariant(
            name="focal",
            changes=('loss.name="focal"',),
            members=(member(1, 0.805), member(2, 0.803)),
            macro_auroc=Estimate(value=0.804, interval=(0.795, 0.812)),
            difference=Difference(
                first=0.815,
                second=0.804,
                difference=Estimate(value=-0.011, interval=(-0.0150, -0.0071)),
                p_patients=0.0001,
                p_patients_holm=0.0002,
            ),
        ),
        StudyVariant(
            name="large",
            members=(member(1, 0.82), member(2, None, status="failed", artifact=None, message="exit code 1")),
            macro_auroc=Estimate(value=0.82),
            untested="a run of it is failed",
        ),
    ),
    notes=("A note.",),
)


def rows() -> list[list[str]]:
    table = study_table(RESULTS)
    return [table.texts(row) for row in table.rows]


def test_table_has_a_row_for_each_variant_with_differences_from_the_base() -> None:
    base, focal, large = rows()
    assert base[:5] == ["base", "0.815 (0.807–0.823)", "0.0042", "base", ""]
    assert focal[:5] == ["focal", "0.804 (0.795–0.812)", "0.0014", "-0.0110 (-0.0150 to -0.0071)", "0.0002"]
    assert large[:5] == ["large", "0.820", "–", "–", "–"]
    assert focal[-3:] == ["1, 2", "1h00m", "2 complete"]
    assert large[-1] == "1 complete, 1 failed"


def test_what_is_missing_is_said_below_the_table() -> None:
    notes = study_table(RESULTS).notes
    assert "p-values: DeLong's test with patients as clusters. They" in notes[0]
    assert "large, seed 2: failed: exit code 1" in notes
    assert not any(note.startswith("large: no paired test") for note in notes)  # the failure says it
    assert notes[-1] == "A note."
    older = RESULTS.variants[0].model_copy(update={"name": "older", "untested": "it was published earlier"})
    shown = study_table(RESULTS.model_copy(update={"variants": (older,)})).notes
    assert "older: no paired test: it was published earlier." in shown


def test_variants_that_were_not_compared_get_no_statement_about_tests() -> None:
    alone = RESULTS.model_copy(update={"interval": None})
    assert not any("Holm" in note for note in study_table(alone).notes)


def test_chart_has_a_mark_and_an_interval_for_each_variant() -> None:
    chart = present(study_chart(RESULTS))
    texts = [of.text for of in chart.iter("text")]
    assert {"base", "focal", "large"} <= set(texts)
    large_dots = [of for of in chart.iter("circle") if of.get("r") == "3.5"]
    assert len(large_dots) == 3
    thick = [of for of in chart.iter("line") if of.get("stroke-width") == "3"]
    assert len(thick) == 2
    assert [of.get("fill") for of in large_dots].count(large_dots[1].get("fill")) == 1  # focal alone differs
    assert study_chart(RESULTS.model_copy(update={"variants": (StudyVariant(name="a", members=()),)})) is None


def test_chart_of_one_value_has_an_axis_around_it() -> None:
    one = StudyVariant(name="base", members=(member(1, 0.8),), macro_auroc=Estimate(value=0.8))
    chart = present(study_chart(RESULTS.model_copy(update={"variants": (one,)})))
    (mark,) = chart.iter("circle")
    assert 0 < float(present(mark.get("cx"))) < float(present(chart.get("width")))


def test_files_contain_the_table_and_the_chart(tmp_path: Path) -> None:
    write_study(RESULTS, tmp_path / "out")
    names = sorted(path.name for path in (tmp_path / "out").iterdir())
    assert names == ["study.html", "study.json", "study.md", "study.svg"]
    assert StudyResults.model_validate_json((tmp_path / "out" / "study.json").read_bytes()) == RESULTS
    ET.parse(tmp_path / "out" / "study.svg")
    text = (tmp_path / "out" / "study.md").read_text()
    assert "| focal | 0.804 (0.795–0.812) | 0.0014 |" in text
    assert "](study.svg)" in text
    assert '- focal: loss.name="focal"; `chex/study@' in text
    page = (tmp_path / "out" / "study.html").read_text()
    assert "0.804 (0.795–0.812)" in page
    assert "<svg" in page
    with pytest.raises(UsageError, match="is not a folder"):
        write_study(RESULTS, tmp_path / "out" / "study.md")


def test_untrusted_text_is_not_interpreted(tmp_path: Path) -> None:
    hostile = StudyVariant(name=HOSTILE, changes=(HOSTILE,), members=(member(1, 0.8, message=HOSTILE),))
    write_study(RESULTS.model_copy(update={"variants": (hostile,), "notes": (HOSTILE,)}), tmp_path)
    for name in ("study.html", "study.svg"):
        assert "<img src=x" not in (tmp_path / name).read_text()
    assert "\x1b" not in (tmp_path / "study.md").read_text()
    assert "<img" not in (tmp_path / "study.md").read_text().replace("\\<img", "")
    assert "<img src=x" not in table_html(study_table(RESULTS.model_copy(update={"variants": (hostile,)})))


def test_variants_and_report_need_no_numpy() -> None:
    modules = "chexvision.report.study_report, chexvision_dispatch.studies.results, chexvision.cli.sweep"
    code = f"import sys; sys.modules['numpy'] = None; import {modules}"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
