"""The dual-head classifier: one backbone, 14 findings and normal/abnormal."""

from __future__ import annotations

from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

import torch
from huggingface_hub import PyTorchModelHubMixin, hf_hub_download
from huggingface_hub.errors import EntryNotFoundError
from safetensors.torch import load_file
from torch import Tensor, nn

from chexvision.config import Recipe
from chexvision.errors import ChexError
from chexvision.labels import FINDINGS
from chexvision.models.registry import BACKBONES

WEIGHTS_FILE = "model.safetensors"


class CheXVision(
    nn.Module,
    PyTorchModelHubMixin,
    library_name="chexvision",
    pipeline_tag="image-classification",
    license="apache-2.0",
    tags=["chest-x-ray", "radiology", "medical-imaging"],
):
    """Classify frontal chest radiographs into 14 findings and normal/abnormal.

    The arguments are what ``config.json`` holds: all that is needed to build the network again and to
    prepare an image as in training.

    Args:
        backbone: a name of `chexvision.models.registry.BACKBONES`.
        hidden_features: width of the layer between pooled features and heads; 0 leaves it out.
        dropout: probability in [0, 1), applied before the heads.
        image_size: side in pixels of the square images it was trained on.
        clahe_clip_limit: of the histogram equalisation applied to its images; 0 for none.
        clahe_tiles: the equalisation's grid is `clahe_tiles`².
        findings: names of the 14 outputs, in their order.

    Example:
        >>> model = CheXVision.from_pretrained("user/repo", revision="densenet-20260101-1432-3f9c")
        >>> model(images)["multilabel_logits"].sigmoid()
    """

    def __init__(
        self,
        backbone: str = "densenet121",
        hidden_features: int = 512,
        dropout: float = 0.3,
        image_size: int = 320,
        clahe_clip_limit: float = 2.0,
        clahe_tiles: int = 8,
        findings: Sequence[str] = FINDINGS,
    ) -> None:
        super().__init__()
        if backbone not in BACKBONES:
            raise ChexError(
                f"unknown backbone {backbone!r}; this version knows {', '.join(sorted(BACKBONES))}, "
                "a newer chexvision may know more"
            )
        self.image_size = image_size
        self.clahe_clip_limit = clahe_clip_limit
        self.clahe_tiles = clahe_tiles
        self.findings = tuple(findings)
        self.backbone = build_backbone(backbone, pretrained=False)
        self.pool = nn.AdaptiveAvgPool2d(1)
        features = BACKBONES[backbone].channels
        hidden: list[nn.Module] = []
        if hidden_features:
            hidden = [nn.Linear(features, hidden_features), nn.ReLU()]
            features = hidden_features
        self.neck = nn.Sequential(*hidden, nn.Dropout(dropout))
        self.multilabel_head = nn.Linear(features, len(self.findings))
        self.binary_head = nn.Linear(features, 1)
        self._backbone_frozen = False

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """Classify a batch.

        Args:
            images: float[B, 3, H, W], grey in all channels, normalised by `PIXEL_MEAN` and `PIXEL_STD`.

        Returns:
            ``multilabel_logits`` float[B, 14] and ``binary_logits`` float[B, 1].
        """
        features = self.neck(self.pool(self.backbone(images)).flatten(1))
        return {
            "multilabel_logits": self.multilabel_head(features),
            "binary_logits": self.binary_head(features),
        }

    def freeze_backbone(self, frozen: bool) -> None:
        """Hold the backbone's weights and its norms' running statistics, or let both learn again."""
        self._backbone_frozen = frozen
        self.backbone.requires_grad_(not frozen)
        self.train(self.training)

    def train(self, mode: bool = True) -> CheXVision:
        """As `nn.Module.train`; a frozen backbone stays in evaluation mode."""
        super().train(mode)
        if self._backbone_frozen:
            self.backbone.eval()
        return self

    @classmethod
    def _from_pretrained(
        cls,
        *,
        model_id: str,
        revision: str | None,
        cache_dir: str | Path | None,
        force_download: bool,
        local_files_only: bool,
        token: str | bool | None,
        map_location: str = "cpu",
        strict: bool = True,
        **model_kwargs: Any,
    ) -> CheXVision:
        # The mixin's own version falls back to pickled weights, loads what does not fit, and prints.
        if "backbone" not in model_kwargs:
            raise ChexError(f"{model_id} has no config.json of a CheXVision model; check the name and revision")
        if Path(model_id).is_dir():
            weights = Path(model_id) / WEIGHTS_FILE
        else:
            try:
                weights = Path(
                    hf_hub_download(
                        model_id,
                        WEIGHTS_FILE,
                        revision=revision,
                        cache_dir=cache_dir,
                        force_download=force_download,
                        local_files_only=local_files_only,
                        token=token,
                    )
                )
            except EntryNotFoundError:
                weights = Path(WEIGHTS_FILE)
        if not weights.is_file():
            raise ChexError(f"{model_id} has no {WEIGHTS_FILE}; pickled weights are never loaded")
        model = cls(**model_kwargs)
        try:
            model.load_state_dict(load_file(weights, device=map_location), strict=strict)
        except Exception as error:
            raise ChexError(f"{weights} does not hold this model's weights: {error}") from error
        return model.eval()


def build_backbone(name: str, *, pretrained: bool) -> nn.Module:
    """The backbone `name` of the registry, with ImageNet weights where asked for."""
    module, _, function = BACKBONES[name].builder.partition(":")
    network = getattr(import_module(module), function)(pretrained=pretrained)
    if not isinstance(network, nn.Module):
        raise TypeError(f"{BACKBONES[name].builder} built {type(network).__name__}, not a module")
    return network


def build_model(recipe: Recipe) -> CheXVision:
    """The untrained model of a recipe, initialised from its seed.

    Raises:
        ChexError: the ImageNet weights could not be downloaded.
    """
    torch.manual_seed(recipe.training.seed)
    clahe = recipe.data.clahe
    model = CheXVision(
        backbone=recipe.model.backbone,
        hidden_features=recipe.model.hidden_features,
        dropout=recipe.model.dropout,
        image_size=recipe.data.image_size,
        clahe_clip_limit=clahe.clip_limit if clahe.enabled else 0.0,
        clahe_tiles=clahe.tiles,
    )
    if recipe.model.pretrained:
        pretrained = build_backbone(recipe.model.backbone, pretrained=True)
        model.backbone.load_state_dict(pretrained.state_dict())
    return model
