"""`chexvision doctor`: whether a dispatch would work, before it is tried."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Annotated

import typer

from chexvision.cli.names import Model


def doctor(
    model: Model = "densenet",
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Check what a dispatch needs, each with its remedy; exits with 1 if something needed is missing."""
    from chexvision.recipes import load_recipe
    from chexvision_dispatch.doctor import examine

    findings = examine(load_recipe(model))
    if as_json:
        print(json.dumps([asdict(finding) for finding in findings], indent=2))
    else:
        for finding in findings:
            mark = "ok" if finding.ok else "MISSING" if finding.needed else "-"
            print(f"{mark:8}{finding.name:10}{finding.note}")
    if any(finding.needed and not finding.ok for finding in findings):
        raise typer.Exit(1)
