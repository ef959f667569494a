"""Templates of label maps, and the guide that uses them."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from chexvision.cli import main
from chexvision.errors import UsageError
from chexvision.images.radiograph import decode_grey
from chexvision.label_maps.template import template_of
from chexvision.shards.manifest import read_manifest
from tests.images.dicoms import windowed
from tests.label_maps.own_set import TABLE, Set, rows_of
from tests.shards.conftest import png


def test_a_template_of_the_table_builds_shards(
    own: Set, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    own.map.unlink()
    own.table.write_text(TABLE.replace("fold", "split").replace("years", "age"))
    for words in (
        ["labels", "template", "my.csv", "--out", "map.yaml"],
        ["shards", "build", "--images", "images", "--labels", "my.csv", "--map", "map.yaml", "--out", "out"],
    ):
        with pytest.raises(SystemExit) as ended:
            main(words)
        assert ended.value.code == 0
    said = capsys.readouterr()
    assert "guess: patient: column 'patient'" in said.err and "DOE" not in said.err + own.map.read_text()
    manifest = read_manifest(tmp_path / "out")
    assert manifest is not None and manifest.images == 5
    assert manifest.label_space.findings == ("Effusion", "Opacity")
    rows = rows_of(tmp_path / "out")
    assert (rows["b__1"]["labels"], rows["b__1"]["uncertain"], rows["b__1"]["age"]) == ("Opacity", "Effusion", 47)


def guessed(tmp_path: Path, text: str) -> dict[str, Any]:
    (tmp_path / "t.csv").write_text(text)
    found: dict[str, Any] = yaml.safe_load(template_of(tmp_path / "t.csv").text)
    return found


def test_a_template_of_the_release(tmp_path: Path) -> None:
    rows = "\n".join(f"{i:08d}_000.png,{('Mass|Nodule', 'No Finding', 'Mass')[i % 3]},{i}" for i in range(9))
    found = guessed(tmp_path, f"Image Index,Finding Labels,Patient ID\n{rows}\n")
    assert (found["image"], found["patient"], found["labels"], found["separator"]) == (
        ["Image Index"], ["Patient ID"], "Finding Labels", "|",
    )  # fmt: skip
    assert found["normal"] == ["No Finding"] and list(found["targets"]) == ["Mass", "Nodule"]


def test_a_template_of_numbers(tmp_path: Path) -> None:
    found = guessed(
        tmp_path, "Path,No Finding,Nodule/Mass,Edema,Notes\na.jpg,1.0,,,x\nb.jpg,,1.0,-1.0,y\nc.jpg,,0.0,,z\n"
    )
    assert found["image"] == ["Path"] and found["normal"] == ["No Finding"]
    assert (found["positive"], found["negative"], found["uncertain"]) == (["1.0"], ["0.0"], ["-1.0"])
    assert found["targets"] == {"Nodule Mass": {"any_of": ["Nodule/Mass"]}, "Edema": {"any_of": ["Edema"]}}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("x,y\n1,2\n", "no column of image files is recognized"),
        ("image,y\na.png,some text\nb.png,other text\n", "no column of labels is recognized"),
        ("image,y\n", "has no rows"),
        ("image;y\na.png;1\n", "separated by ';'; save it with commas"),
        ("image,y\na.png,|\nb.png,\n", "no column of labels is recognized"),
        ("image,y\na.png,normal|No Finding\nb.png,normal\n", "no column of labels is recognized"),
    ],
)
def test_tables_that_no_template_fits(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "t.csv").write_text(text)
    with pytest.raises(UsageError, match=message):
        template_of(tmp_path / "t.csv")


def test_names_of_people_are_not_taken_for_a_list_of_labels(tmp_path: Path) -> None:
    people = "\n".join(f'{i}.png,"{("Doe, Jane", "Roe, Jane")[i % 2]}"' for i in range(8))
    (tmp_path / "t.csv").write_text(f"image,name\n{people}\n")
    with pytest.raises(UsageError, match="no column of labels is recognized") as refused:
        template_of(tmp_path / "t.csv")
    assert "Jane" not in str(refused.value)


def test_the_guide_says_what_the_commands_print(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of docs/own-data.md: its table and map, and the output of its commands but for the bytes of the images."""
    guide = (Path(__file__).parents[2] / "docs" / "own-data.md").read_text()
    blocks = {kind: re.findall(rf"^```{kind}\n(.*?)^```", guide, re.M | re.S) for kind in ("csv", "yaml", "console")}
    monkeypatch.chdir(tmp_path)
    Path("my.csv").write_text(blocks["csv"][0])
    for number, line in enumerate(blocks["csv"][0].splitlines()[1:]):
        path = Path("images", line.split(",")[0])
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(windowed(decode_grey(png(number))))
    for block, by_hand in ((blocks["console"][0], False), (blocks["console"][1], True)):
        command, _, expected = block.partition("\n")
        with pytest.raises(SystemExit) as ended:
            main(command.removeprefix("$ chexvision ").split())
        assert ended.value.code == 0
        said = capsys.readouterr()
        found = "".join(
            line + "\n" for line in (said.out or said.err).splitlines() if not line.startswith("building")
        )
        assert re.sub(r"[\d,]{5,}", "-", found).split() == re.sub(r"[\d,]{5,}", "-", expected).split()
        if not by_hand:
            assert yaml.safe_load(Path("map.yaml").read_text()) == yaml.safe_load(blocks["yaml"][0])
