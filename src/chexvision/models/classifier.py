"""The dual-head classifier: one backbone, K findings and normal/abnormal."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import Any

import torch
from huggingface_hub import PyTorchModelHubMixin
from pydantic import ValidationError
from torch import Tensor, nn

from chexvision.backbones import BACKBONES
from chexvision.config.recipe import Recipe
from chexvision.errors import ChexError
from chexvision.files.atomic import write_text_atomic
from chexvision.files.json_files import first_problem
from chexvision.hub.reference import Reference, RepoRef, parse_reference
from chexvision.hub.repo_files import CONFIG, ENSEMBLE, WEIGHTS, at_commit, model_file
from chexvision.labels import NIH, LabelSpace
from chexvision.models.model_config import CheXVisionConfig, read_config
from chexvision.models.normalize import plain
from chexvision.models.weights import load_weights
from chexvision.preprocessing import Preprocessing


class CheXVision(
    nn.Module,
    PyTorchModelHubMixin,
    library_name="chexvision",
    pipeline_tag="image-classification",
    license="apache-2.0",
    tags=["chest-x-ray", "radiology", "medical-imaging"],
):
    """Classify frontal chest radiographs into findings and normal/abnormal.

    The arguments are the content of ``config.json``: everything that is needed to rebuild the network and to
    prepare an image as in training.

    Args:
        backbone: a name of `chexvision.backbones.BACKBONES`.
        hidden_features: width of the layer between pooled features and heads; 0 leaves it out.
        dropout: probability in [0, 1), applied before the heads.
        label_space: of the data that it is trained on; K is the number of its findings.
        preprocessing: turns an original radiograph into the input of the network.

    Raises:
        ChexError: a value is out of bounds.

    Examples:
        >>> model = CheXVision.from_pretrained("user/repo", revision="densenet-20260101-1432-3f9c")
        >>> images = np.stack([model.preprocessing.apply(decode_grey(path.read_bytes())) for path in paths])
        >>> model(model.normalize(torch.from_numpy(images)))["multilabel_logits"].sigmoid()
    """

    def __init__(
        self,
        backbone: str = "densenet121",
        hidden_features: int = 512,
        dropout: float = 0.3,
        label_space: LabelSpace = NIH,
        preprocessing: Preprocessing | None = None,
    ) -> None:
        super().__init__()
        try:
            config = CheXVisionConfig(
                backbone=backbone,
                hidden_features=hidden_features,
                dropout=dropout,
                label_space=label_space,
                preprocessing=preprocessing or Preprocessing(),
            )
        except ValidationError as error:
            raise ChexError(f"a model cannot be built: {first_problem(error)}") from None
        self._config = config
        self.label_space = config.label_space
        self.preprocessing = config.preprocessing
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

    @property
    def findings(self) -> tuple[str, ...]:
        """The names of the K outputs of the multilabel head, in order."""
        return self.label_space.findings

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """Classify a batch.

        Args:
            images: float[B, 3, H, W] of `normalize`.

        Returns:
            ``multilabel_logits`` float[B, K] and ``binary_logits`` float[B, 1].
        """
        features = self.neck(self.pool(self.backbone(images)).flatten(1))
        return {
            "multilabel_logits": self.multilabel_head(features),
            "binary_logits": self.binary_head(features),
        }

    def normalize(self, images: Tensor) -> Tensor:
        """Gray images, uint8[B, H, W] or float in [0, 255], as input of the network: float[B, 3, H, W]."""
        return plain(images, self.preprocessing.mean, self.preprocessing.std)

    def freeze_backbone(self, frozen: bool) -> None:
        """Freeze the backbone's weights and its norms' running statistics, or unfreeze both."""
        self._backbone_frozen = frozen
        self.backbone.requires_grad_(not frozen)
        self.train(self.training)

    def train(self, mode: bool = True) -> CheXVision:
        """As `nn.Module.train`; a frozen backbone stays in evaluation mode."""
        super().train(mode)
        if self._backbone_frozen:
            self.backbone.eval()
        return self

    def _save_pretrained(self, save_directory: Path) -> None:
        super()._save_pretrained(save_directory)
        # The mixin would write the constructor's arguments, of any type and without a format.
        config = self._config.model_copy(update={"preprocessing": self.preprocessing})
        write_text_atomic(save_directory / CONFIG, config.model_dump_json(indent=2) + "\n")

    @classmethod
    def from_pretrained(  # type: ignore[override]  # the mixin passes any further argument to the constructor
        cls,
        pretrained_model_name_or_path: str | Path,
        *,
        revision: str | None = None,
        cache_dir: str | Path | None = None,
        force_download: bool = False,
        local_files_only: bool = False,
        token: str | bool | None = None,
        map_location: str = "cpu",
    ) -> CheXVision:
        """The model in a folder or a Hub repository, in evaluation mode.

        An untrusted model is safe to load: no code of it is executed or unpickled, ``config.json`` is validated
        before anything is built, and the weights must match and be finite. The mixin's own version falls back to
        pickled weights, loads those that do not match, and prints.

        Args:
            pretrained_model_name_or_path: a folder, or ``USER/REPO``.
            revision: of the repository: a run's id, a branch or a commit.
            cache_dir: of the Hub's client, as are the next three.
            force_download: fetch files again that are in the cache.
            local_files_only: use only the cache.
            token: for private repositories.
            map_location: device that the weights are read to before they are copied into the model.

        Raises:
            UsageError: the folder does not exist, or a revision of a folder is named.
            ChexError: it cannot be fetched or read, or is not a complete CheXVision model.
        """
        reference = _reference(pretrained_model_name_or_path, revision)
        client: dict[str, Any] = {
            "cache_dir": cache_dir, "force_download": force_download, "local_files_only": local_files_only,
            "token": token,
        }  # fmt: skip
        reference = at_commit(reference, **client)
        config = model_file(reference, CONFIG, **client)
        weights = model_file(reference, WEIGHTS, **client)
        if config is None and model_file(reference, ENSEMBLE, **client) is not None:
            raise ChexError(
                f"{reference} is an ensemble of models; load it with chexvision.artifact.load.load_published, or use "
                "chexvision predict"
            )
        if config is None or weights is None:
            raise ChexError(f"{reference} has no {WEIGHTS}; pickled weights are never loaded")
        return model_from_files(config, weights, map_location)


def model_from_files(config: Path, weights: Path, map_location: str = "cpu") -> CheXVision:
    """The model of a ``config.json`` and a ``model.safetensors``, which may be untrusted, in evaluation mode.

    Raises:
        ChexError: a file cannot be read, or they are not of one complete CheXVision model.
    """
    checked = read_config(config)
    model = CheXVision(
        checked.backbone, checked.hidden_features, checked.dropout, checked.label_space, checked.preprocessing
    )
    load_weights(model, weights, map_location)
    return model.eval()


def _reference(name: str | Path, revision: str | None) -> Reference:
    if revision is not None:
        return RepoRef(str(name), revision)
    return name if isinstance(name, Path) else parse_reference(name)


def build_backbone(name: str, *, pretrained: bool) -> nn.Module:
    """The backbone `name` of the registry, with ImageNet weights if requested."""
    module, _, function = BACKBONES[name].builder.partition(":")
    network = getattr(import_module(module), function)(pretrained=pretrained)
    if not isinstance(network, nn.Module):
        raise TypeError(f"{BACKBONES[name].builder} built {type(network).__name__}, not a module")
    return network


def pretrained_backbone(recipe: Recipe) -> nn.Module | None:
    """The backbone of a recipe with ImageNet weights; None where it starts from random ones.

    Raises:
        ChexError: the weights could not be downloaded.
    """
    return build_backbone(recipe.model.backbone, pretrained=True) if recipe.model.weights == "imagenet" else None


def build_model(recipe: Recipe, label_space: LabelSpace = NIH, pretrained: nn.Module | None = None) -> CheXVision:
    """The untrained model of a recipe, initialized from its seed.

    Args:
        recipe: what to build.
        label_space: of the data.
        pretrained: of `pretrained_backbone`, which is called where it is left out.

    Raises:
        ChexError: the ImageNet weights could not be downloaded.
    """
    pretrained = pretrained_backbone(recipe) if pretrained is None else pretrained
    torch.manual_seed(recipe.training.seed)
    model = CheXVision(
        backbone=recipe.model.backbone,
        hidden_features=recipe.model.hidden_features,
        dropout=recipe.model.dropout,
        label_space=label_space,
        preprocessing=Preprocessing(image_size=recipe.data.image_size, clahe=recipe.data.clahe),
    )
    if pretrained is not None:
        model.backbone.load_state_dict(pretrained.state_dict())
    return model
