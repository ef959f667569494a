"""`config.json` of a model: everything that is needed to rebuild it and to prepare images for it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, ValidationError, field_validator

from chexvision.backbones import RENAMED, check_backbone
from chexvision.config.data_config import Section
from chexvision.config.recipe import Pooling
from chexvision.errors import ChexError
from chexvision.files.json_files import first_problem, read_file
from chexvision.images.preprocessing import Preprocessing
from chexvision.labels import NIH, LabelSpace

FORMAT = 3

_Width = Annotated[int, Field(ge=0, le=16384)]
_Dropout = Annotated[float, Field(ge=0, lt=1)]


class CheXVisionConfig(Section):
    """The content of ``config.json``.

    Args:
        format: of the file; see `read_config` for earlier ones.
        backbone: a name of `chexvision.backbones`, or ``timm/<model>[.<tag>]``.
        hidden_features: width of the layer between pooled features and heads; 0 leaves it out.
        dropout: probability in [0, 1), applied before the heads.
        label_space: the labels that the model predicts.
        preprocessing: how images are prepared.
        pooling: what the heads sit on; see `chexvision.config.recipe.ModelConfig`.
        drop_path: of the last block, in training.
    """

    format: Literal[3] = 3
    backbone: str
    hidden_features: _Width
    dropout: _Dropout
    label_space: LabelSpace
    preprocessing: Preprocessing
    pooling: Pooling
    drop_path: _Dropout

    @field_validator("backbone")
    @classmethod
    def _known(cls, name: str) -> str:
        check_backbone(name)
        return name


def _upgraded(tree: dict[str, Any]) -> dict[str, Any]:
    """The content of a file of an earlier format as format 3; values are not checked.

    Format 1 names the findings alone; one of them may be "No Finding", today's default for the normal label. A file
    without a format resizes images in one step and may leave out values and contain further keys. Up to
    format 2 the pooling is the network's own, and DenseNet-121 is torchvision's.
    """
    if "format" not in tree:
        limit = tree.get("clahe_clip_limit", 2.0)
        tiles = tree.get("clahe_tiles", 8)
        clahe = {"enabled": limit != 0, "clip_limit": limit or 1.0, "tiles": tiles}
        tree = {
            "format": 1,
            "backbone": tree["backbone"],
            "hidden_features": tree.get("hidden_features", 512),
            "dropout": tree.get("dropout", 0.3),
            "findings": tree.get("findings", NIH.findings),
            "preprocessing": {"image_size": tree.get("image_size", 320), "clahe": clahe},
        }
    if type(tree["format"]) is int and tree["format"] == 1:
        names = {key: value for key, value in tree.items() if key == "findings"}
        listed = names.get("findings")
        if isinstance(listed, list) and "no finding" in (str(name).casefold() for name in listed):
            names["normal"] = "No other finding"
        others = {key: value for key, value in tree.items() if key != "findings"}
        tree = {**others, "format": 2, "label_space": names}
    if type(tree["format"]) is int and tree["format"] == 2:
        renamed = RENAMED.get(str(tree["backbone"]), tree["backbone"])
        tree = {**tree, "format": 3, "backbone": renamed, "pooling": "network", "drop_path": 0.0}
    return tree


def read_config(path: Path) -> CheXVisionConfig:
    """Read and validate a ``config.json`` of this or an earlier format.

    Raises:
        ChexError: it cannot be read, is from another program or of a later format, or a value is out of bounds.
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
        return CheXVisionConfig.model_validate_json(json.dumps(_upgraded(tree)))
    except ValidationError as error:
        raise ChexError(f"{path} cannot be used: {first_problem(error)}") from None
