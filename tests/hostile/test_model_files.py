"""Untrusted model files, references and images through the real commands: one error line, nothing written."""

from __future__ import annotations

import json
import os
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load, save_file

import tests.training.runs  # noqa: F401 - registers the backbone "tiny"
from chexvision.cli import main
from chexvision.labels import NIH
from tests.hostile.conftest import Refuses

Change = Callable[[Path], None]
NAMES = NIH.outputs


def config(**changes: Any) -> Change:
    def change(model: Path) -> None:
        path = model / "config.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | changes))

    return change


def labeled(*findings: str, **changes: Any) -> Change:
    return config(label_space={"findings": findings, **changes})


def first_format(**changes: Any) -> Change:
    """Format 1: findings only."""

    def change(model: Path) -> None:
        path = model / "config.json"
        found = json.loads(path.read_text())
        old = found | {"format": 1, "findings": found.pop("label_space")["findings"]}
        path.write_text(json.dumps({k: v for k, v in old.items() if k != "label_space"} | changes))

    return change


def prepared(**changes: Any) -> Change:
    def change(model: Path) -> None:
        path = model / "config.json"
        found = json.loads(path.read_text())
        found["preprocessing"] |= changes
        path.write_text(json.dumps(found))

    return change


def unnumbered(**changes: Any) -> Change:
    """The format before numbering."""
    old = {
        "backbone": "tiny", "clahe_clip_limit": 2.0, "clahe_tiles": 8, "dropout": 0.3, "findings": list(NIH.findings),
        "hidden_features": 0, "image_size": 32,
    }  # fmt: skip
    return content("config.json", json.dumps(old | changes))


def content(name: str, text: str | bytes) -> Change:
    def change(model: Path) -> None:
        (model / name).write_bytes(text if isinstance(text, bytes) else text.encode())

    return change


def deleted(name: str) -> Change:
    return lambda model: (model / name).unlink()


def folder(name: str) -> Change:
    def change(model: Path) -> None:
        (model / name).unlink()
        (model / name).mkdir()

    return change


def dangling(name: str) -> Change:
    def change(model: Path) -> None:
        (model / name).unlink()
        (model / name).symlink_to("nowhere")

    return change


def pipe(name: str) -> Change:
    def change(model: Path) -> None:
        (model / name).unlink()
        os.mkfifo(model / name)

    return change


def record(name: str, **changes: Any) -> Change:
    def change(model: Path) -> None:
        path = model / name
        path.write_text(json.dumps(json.loads(path.read_text()) | changes))

    return change


def curve(**fields: Any) -> Change:
    return record("calibration.json", curves=dict.fromkeys(NAMES, None) | {"Effusion": fields})


def weights(edit: Callable[[dict[str, torch.Tensor]], Any]) -> Change:
    def change(model: Path) -> None:
        path = model / "model.safetensors"
        found = load(path.read_bytes())
        edit(found)
        save_file(found, path)

    return change


def truncate(model: Path) -> None:
    path = model / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-1000])


def pickled(model: Path) -> None:
    torch.save(load((model / "model.safetensors").read_bytes()), model / "model.safetensors")


def add_pickled_weights(model: Path) -> None:
    torch.save(load((model / "model.safetensors").read_bytes()), model / "pytorch_model.bin")
    (model / "model.safetensors").unlink()


HEAD = "binary_head.weight"
HUGE = "1" + "0" * 5000
DEEP = "[" * 100_000

HOSTILE: dict[str, tuple[Change, str]] = {
    "a finding with path traversal": (labeled("../../../diary"), "findings.0"),
    "a finding with an absolute path": (labeled("/tmp/evil"), "findings.0"),
    "a finding that is a Windows path": (labeled("..\\evil"), "findings.0"),
    "a finding with markup": (labeled("[red]"), "findings.0"),
    "a finding that closes markup": (labeled("[/]"), "findings.0"),
    "a finding with terminal escapes": (labeled("\x1b[2J\x1b]0;owned\x07"), "findings.0"),
    "a finding with a line break": (labeled("Mass\n"), "findings.0"),
    "a finding that ends in a space": (labeled("Mass "), "findings.0"),
    "an empty finding": (labeled(""), "findings.0"),
    "a very long finding": (labeled("a" * 65), "at most 64"),
    "two findings of one name": (labeled("Mass", "mass"), "named twice"),
    "a finding of the other output's name": (labeled("Mass", "Abnormal"), "normal label or the binary"),
    "a finding of the normal label's name": (labeled("Mass", "no finding"), "normal label"),
    "no findings": (labeled(), "at least 1 item"),
    "a million findings": (labeled(*[f"f{i}" for i in range(60_000)]), "at most 1024"),
    "findings that are a text": (config(label_space={"findings": "Effusion"}), "label_space.findings"),
    "findings that are numbers": (config(label_space={"findings": [1, 2]}), "valid string"),
    "no label space": (config(label_space=None), "label_space"),
    "a normal label with markup": (labeled("Mass", normal="[red]"), "label_space.normal"),
    "another name of the binary output": (labeled("Mass", abnormal="Sick"), "label_space.abnormal"),
    "an unknown key of the label space": (labeled("Mass", policy="ones"), "label_space.policy"),
    "a later format": (config(format=4), "format 4, this version reads up to 3; update chexvision"),
    "a format that is true": (config(format=True), "format"),
    "format 1, a finding with path traversal": (first_format(findings=["../../../diary"]), "findings.0"),
    "format 1, two findings of one name": (first_format(findings=["Mass", "mass"]), "named twice"),
    "format 1, findings that are null": (first_format(findings=None), "label_space.findings"),
    "format 1, an unknown key": (first_format(colour="red"), "colour"),
    "a format that is a text": (config(format="1"), "format"),
    "a negative format": (config(format=-1), "format"),
    "an unknown key": (config(colour={"x": 1}), "colour"),
    "an unknown backbone": (config(backbone="os:system"), "unknown backbone 'os:system'; known are "),
    "a backbone that is a list": (config(backbone=[]), "backbone"),
    "a width beyond memory": (config(hidden_features=10**12), "hidden_features"),
    "a negative width": (config(hidden_features=-1), "hidden_features"),
    "a width that is a text": (config(hidden_features="0"), "hidden_features"),
    "a dropout that is not a number": (config(dropout=float("nan")), "dropout"),
    "a dropout of 1": (config(dropout=1), "dropout"),
    "images of no pixels": (prepared(image_size=0), "image_size"),
    "images of a billion pixels": (prepared(image_size=10**9), "image_size"),
    "images above the shards' size": (prepared(shard_size=16), "image_size 32 is above shard_size 16"),
    "an unknown interpolation": (prepared(interpolation="lanczos"), "interpolation"),
    "a deviation of 0": (prepared(std=0), "std"),
    "a mean that is infinite": (prepared(mean=float("inf")), "mean"),
    "no equalization tiles": (prepared(clahe={"enabled": True, "clip_limit": 2.0, "tiles": 0}), "tiles"),
    "a clip limit that overflows": (prepared(clahe={"enabled": True, "clip_limit": 1e308, "tiles": 8}), "clip_limit"),
    "no preprocessing": (config(preprocessing=None), "preprocessing"),
    "unnumbered, no tiles": (unnumbered(clahe_tiles=0), "tiles"),
    "unnumbered, a million tiles": (unnumbered(clahe_tiles=10**6), "tiles"),
    "unnumbered, a finding with path traversal": (unnumbered(findings=["../../../diary"]), "findings.0"),
    "unnumbered, a size that is a text": (unnumbered(image_size="32"), "image_size"),
    "unnumbered, a negative clip limit": (unnumbered(clahe_clip_limit=-1), "clip_limit"),
    "another program's config.json": (content("config.json", '{"architectures": ["Bert"]}'), "names no backbone"),
    "a config.json that is a list": (content("config.json", "[]"), "names no backbone"),
    "a config.json that is empty": (content("config.json", ""), "not a JSON file"),
    "a config.json that is binary": (content("config.json", bytes(range(256))), "not a JSON file"),
    "a config.json nested too deeply": (content("config.json", DEEP), "not a JSON file"),
    "a config.json with a huge number": (content("config.json", f'{{"backbone": {HUGE}}}'), "not a JSON file"),
    "a config.json of 20 megabytes": (content("config.json", b" " * (20 * 2**20)), "more than 16 MiB"),
    "a config.json that is a folder": (folder("config.json"), "not a regular file"),
    "a config.json that is a pipe": (pipe("config.json"), "not a regular file"),
    "no config.json": (deleted("config.json"), "has no config.json"),
    "no weights": (deleted("model.safetensors"), "has no model.safetensors; pickled weights are never loaded"),
    "additional pickled weights": (add_pickled_weights, "pickled weights are never loaded"),
    "pickled weights under the name": (pickled, "not a complete safetensors file"),
    "truncated weights": (truncate, "not a complete safetensors file"),
    "empty weights": (content("model.safetensors", b""), "not a complete safetensors file"),
    "weights with a huge header": (content("model.safetensors", struct.pack("<Q", 2**63) + b"{}"), "safetensors"),
    "weights that are a folder": (folder("model.safetensors"), "not a regular file"),
    "weights that are a pipe": (pipe("model.safetensors"), "not a regular file"),
    "weights without a tensor": (weights(lambda found: found.pop(HEAD)), "binary_head.weight is missing"),
    "weights with another tensor": (
        weights(lambda found: found.update({"z\x1b[31m": torch.zeros(1)})), "is unknown"
    ),
    "weights of another shape": (
        weights(lambda found: found.update({HEAD: torch.zeros(1, 17)})), r"has shape [1, 17], expected [1, 16]"
    ),
    "integer weights": (
        weights(lambda found: found.update({HEAD: torch.zeros(1, 16, dtype=torch.int64)})), "has type torch.int64"
    ),
    "weights that are not numbers": (
        weights(lambda found: found[HEAD].fill_(float("nan"))), "not finite, first in binary_head.weight"
    ),
    "weights that are infinite": (weights(lambda found: found[HEAD].fill_(float("-inf"))), "not finite"),
    "a negative variance": (
        weights(lambda found: found["backbone.1.running_var"].fill_(-1.0)),
        "output is not a number",
    ),
    "thresholds that are a list": (content("thresholds.json", "[]"), "thresholds.json cannot be used"),
    "thresholds that are not JSON": (content("thresholds.json", "{"), "thresholds.json cannot be used"),
    "thresholds nested too deeply": (content("thresholds.json", DEEP), "thresholds.json cannot be used"),
    "thresholds that are not numbers": (
        record("thresholds.json", values={"Effusion": float("nan")}), "values.Effusion"
    ),
    "thresholds with an unknown key": (record("thresholds.json", evil="\x1b[2J"), "evil"),
    "thresholds that are a folder": (folder("thresholds.json"), "not a regular file"),
    "thresholds that are a pipe": (pipe("thresholds.json"), "not a regular file"),
    "thresholds of another scale": (record("thresholds.json", scale="raw"), "do not belong together"),
    "calibrated thresholds without calibration": (deleted("calibration.json"), "do not belong together"),
    "a calibration that reverses the order": (curve(slope=-1.0, intercept=0.0), "slope"),
    "a calibration that is infinite": (
        content("calibration.json", '{"method": "platt", "curves": {"Mass": {"slope": 1e999, "intercept": 0}}}'),
        "calibration.json cannot be used",
    ),
    "a calibration of nothing": (curve(), "expected slope and intercept, or knots"),
    "a calibration with only a slope": (curve(slope=1.0), "expected slope and intercept, or knots"),
    "a calibration of unequal knots": (curve(x=[0, 1], y=[0]), "of one length"),
    "a calibration with decreasing knots": (curve(x=[0, 1], y=[1, 0]), "do not increase"),
    "a calibration beyond 1": (curve(x=[0, 1], y=[0, 7]), "less than or equal to 1"),
    "a calibration of other findings": (record("calibration.json", curves={"Mass": None}), "another model"),
    "an unknown calibration": (record("calibration.json", method="magic"), "method"),
    "a calibration that links to nothing": (dangling("calibration.json"), "No such file"),
    "a calibration that is a folder": (folder("calibration.json"), "not a regular file"),
}  # fmt: skip


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_model_is_a_one_line_error_and_writes_nothing(name: str, workspace: Path, refuses: Refuses) -> None:
    change, message = HOSTILE[name]
    change(workspace / "model")
    assert message in refuses("explain", "model", "chest.png", "--out", "out")
    assert message in refuses("predict", "model", "chest.png", "--explain", "out")


MODELS = [name for name in HOSTILE if "thresholds" not in name and "calibration" not in name]


@pytest.mark.parametrize("name", MODELS[::6])
def test_evaluate_and_audit_refuse_hostile_models(
    name: str, workspace: Path, synthetic_shards: Path, refuses: Refuses
) -> None:
    change, message = HOSTILE[name]
    change(workspace / "model")
    for command in ("evaluate", "audit"):
        assert message in refuses(command, "model", "--data", str(synthetic_shards), "--out", "out")


def test_the_unmodified_model_is_accepted(workspace: Path, capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["predict", "model", "chest.png", "--json"])
    assert ended.value.code == 0
    assert len(json.loads(capfd.readouterr().out)[0]["probabilities"]) == 15


REFERENCES: dict[str, tuple[str, str]] = {
    "a revision of a folder": ("./model@v1", "is a folder, which has no revision 'v1'"),
    "a revision of a plain folder": ("model@v1", "is a folder, which has no revision 'v1'"),
    "a revision of a folder with a user's name": ("chex/model@v1", "is a folder here, which has no revision 'v1'"),
    "a folder that is not there": ("./nothing", "no model folder"),
    "a file": ("./chest.png", "no model folder"),
    "no revision": ("a/b@", "ends in @ without a revision"),
    "a revision with path traversal": ("a/b@../../../x", "cannot be a revision"),
    "a revision with a line break": ("a/b@v1\n", "cannot be a revision"),
    "a repository with path traversal": ("a/..@v1", "no model folder"),
    "a repository with a line break": ("a/b\n", "no model folder"),
    "a web address": ("https://huggingface.co/a/b", "no model folder"),
    "a name with terminal escapes": ("\x1b]0;owned\x07", "no model folder"),
    "an empty name": ("", "an empty text"),
}


@pytest.mark.parametrize("name", REFERENCES)
def test_a_hostile_reference_is_a_one_line_error(name: str, workspace: Path, refuses: Refuses) -> None:
    (workspace / "chex").mkdir()
    (workspace / "model").rename(workspace / "chex" / "model")
    (workspace / "model").symlink_to(workspace / "chex" / "model")
    text, message = REFERENCES[name]
    assert message in refuses("predict", text, "chest.png")
    assert message in refuses("explain", text, "chest.png", "--out", "out")
