"""`config.json` of a model: everything that is needed to build it again and to prepare images for it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, ValidationError, field_validator

from chexvision.backbones import backbone_named
from chexvision.config import ClaheConfig, Section
from chexvision.errors import ChexError
from chexvision.files.json_files import first_problem, read_file
from chexvision.labels import ABNORMAL, FINDINGS
from chexvision.preprocessing import Preprocessing

FORMAT = 1

# Findings are shown in tables and become parts of file names.
Finding = Annotated[str, Field(max_length=64, pattern=r"^[A-Za-z0-9]([A-Za-z0-9 _-]*[A-Za-z0-9])?$")]
_Width = Annotated[int, Field(ge=0, le=16384)]
_Dropout = Annotated[float, Field(ge=0, lt=1)]
_Findings = Annotated[tuple[Finding, ...], Field(min_length=1, max_length=1024)]


class CheXVisionConfig(Section):
    """The content of ``config.json``.

    Args:
        format: of the file; a file without it was written before formats were numbered.
        backbone: a name of `chexvision.backbones.BACKBONES`.
        hidden_features: width of the layer between pooled features and heads; 0 leaves it out.
        dropout: probability in [0, 1), applied before the heads.
        findings: names of the outputs in their order: letters, digits, spaces, ``_`` and ``-``, each name once.
        preprocessing: how images are prepared.
    """

    format: Literal[1] = 1
    backbone: str
    hidden_features: _Width
    dropout: _Dropout
    findings: _Findings
    preprocessing: Preprocessing

    @field_validator("backbone")
    @classmethod
    def _known(cls, name: str) -> str:
        backbone_named(name)
        return name

    @field_validator("findings")
    @classmethod
    def _distinct(cls, findings: tuple[str, ...]) -> tuple[str, ...]:
        seen = {ABNORMAL.casefold()}  # the output beside the findings
        for name in findings:
            if name.casefold() in seen:
                raise ValueError(f"{name!r} is named twice, or is the name of the normal/abnormal output")
            seen.add(name.casefold())
        return findings


class _Unnumbered(Section, extra="ignore"):
    """The file before formats were numbered; further keys were ignored."""

    backbone: str
    hidden_features: _Width = 512
    dropout: _Dropout = 0.3
    image_size: int = 320
    clahe_clip_limit: Annotated[float, Field(ge=0)] = 2.0
    clahe_tiles: int = 8
    findings: _Findings = FINDINGS

    def numbered(self) -> CheXVisionConfig:
        """The same in the current format: images are resized in one step."""
        limit = self.clahe_clip_limit
        return CheXVisionConfig(
            backbone=self.backbone,
            hidden_features=self.hidden_features,
            dropout=self.dropout,
            findings=self.findings,
            preprocessing=Preprocessing(
                image_size=self.image_size,
                clahe=ClaheConfig(enabled=limit > 0, clip_limit=limit or 1.0, tiles=self.clahe_tiles),
            ),
        )


def read_config(path: Path) -> CheXVisionConfig:
    """Read and validate a ``config.json`` of this or an earlier format.

    Raises:
        ChexError: it cannot be read, is of another program or a later format, or a value is out of bounds.
    """
    data = read_file(path)
    try:
        tree: Any = json.loads(data)
    except (ValueError, RecursionError) as error:  # not UTF-8, not JSON, a number of 5,000 digits, nested too deeply
        raise ChexError(f"{path} is not a JSON file: {str(error)[:200]}") from None
    if not isinstance(tree, dict) or "backbone" not in tree:
        raise ChexError(f"{path} is not the config.json of a CheXVision model: it names no backbone")
    number = tree.get("format")
    if type(number) is int and number > FORMAT:
        raise ChexError(f"{path} has format {number}, this version reads up to {FORMAT}; update chexvision")
    try:
        # As JSON, where pydantic's strict mode takes an array for a tuple.
        if "format" in tree:
            return CheXVisionConfig.model_validate_json(data)
        return _Unnumbered.model_validate_json(data).numbered()
    except ValidationError as error:
        raise ChexError(f"{path} cannot be used: {first_problem(error)}") from None
