"""The dual-head classifier: one backbone, K findings and normal/abnormal."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import Any

import torch
from huggingface_hub import PyTorchModelHubMixin
from pydantic import ValidationError
from torch import Tensor, nn

from chexvision.backbones import facts
from chexvision.config.recipe import Pooling
from chexvision.config.weights_source import WeightsReport
from chexvision.errors import ChexError, UsageError
from chexvision.files.atomic import write_text_atomic
from chexvision.files.json_files import first_problem
from chexvision.hub.reference import Reference, RepoRef, parse_reference
from chexvision.hub.repo_files import CONFIG, ENSEMBLE, WEIGHTS, at_commit, model_file
from chexvision.images.preprocessing import Preprocessing
from chexvision.labels import NIH, LabelSpace
from chexvision.models.backbone import Backbone
from chexvision.models.model_config import CheXVisionConfig, read_config
from chexvision.models.normalize import plain
from chexvision.models.pooling import FeaturePooling
from chexvision.models.timm_backbone import timm_backbone
from chexvision.models.weights import check_sizes, load_weights
from chexvision.predict.published import Published, read_published


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
        backbone: a name of `chexvision.backbones`, or ``timm/<model>[.<tag>]``.
        hidden_features: width of the layer between pooled features and heads; 0 leaves it out.
        dropout: probability in [0, 1), applied before the heads.
        label_space: of the data that it is trained on; K is the number of its findings.
        preprocessing: turns an original radiograph into the input of the network.
        pooling: what the heads sit on; see `chexvision.config.recipe.ModelConfig`.
        drop_path: probability that the last block's residual branch is dropped in training.

    Raises:
        ChexError: a value is out of bounds, or the network does not take it.

    Examples:
        >>> model = CheXVision.from_pretrained("user/repo", revision="densenet-20260101-1432-3f9c")
        >>> images = np.stack([model.preprocessing.apply(decode_grey(path.read_bytes())) for path in paths])
        >>> model(model.normalize(torch.from_numpy(images)))["multilabel_logits"].sigmoid()
    """

    def __init__(
        self,
        backbone: str = "timm/densenet121.tv_in1k",
        hidden_features: int = 512,
        dropout: float = 0.3,
        label_space: LabelSpace = NIH,
        preprocessing: Preprocessing | None = None,
        pooling: Pooling = "network",
        drop_path: float = 0.0,
    ) -> None:
        super().__init__()
        self.initialized: WeightsReport | None = None  # what training started from, for its record
        self.published: Published | None = None  # what the weights were published with
        try:
            config = CheXVisionConfig(
                backbone=backbone,
                hidden_features=hidden_features,
                dropout=dropout,
                label_space=label_space,
                preprocessing=preprocessing or Preprocessing(),
                pooling=pooling,
                drop_path=drop_path,
            )
        except ValidationError as error:
            raise ChexError(f"a model cannot be built: {first_problem(error)}") from None
        self.configuration = config
        self.label_space = config.label_space
        self.preprocessing = config.preprocessing
        self.backbone = build_backbone(backbone, config.preprocessing.image_size, drop_path)
        self.pooling = FeaturePooling(self.backbone, pooling, config.preprocessing.image_size)
        features = self.pooling.channels
        hidden: list[nn.Module] = []
        if hidden_features:
            hidden = [nn.Linear(features, hidden_features), nn.ReLU()]
            features = hidden_features
        self.neck = nn.Sequential(*hidden, nn.Dropout(dropout))
        self.multilabel_head = nn.Linear(features, len(self.findings))
        self.binary_head = nn.Linear(features, 1)

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
        return self.classify(self.features(images))

    def features(self, images: Tensor) -> Tensor:
        """The pooled features of a batch, float[B, C]: what `classify` turns into the result of `forward`."""
        pooled: Tensor = self.pooling(self.backbone, self.backbone(images))
        return pooled

    def head(self, features: Tensor) -> dict[str, Tensor]:
        """The result of `forward` from that of the backbone."""
        return self.classify(self.pooling(self.backbone, features))

    def classify(self, features: Tensor) -> dict[str, Tensor]:
        """The result of `forward` from that of `features`."""
        features = self.neck(features)
        return {
            "multilabel_logits": self.multilabel_head(features),
            "binary_logits": self.binary_head(features),
        }

    def normalize(self, images: Tensor) -> Tensor:
        """Gray images, uint8[B, H, W] or float in [0, 255], as input of the network: float[B, 3, H, W]."""
        return plain(images, self.preprocessing.mean, self.preprocessing.std)

    def freeze(self, what: str | int) -> None:
        """Choose which parameters learn. Those of the dual head always do.

        A module whose parameters are all frozen is in evaluation mode, also after `train()`: its norms keep their
        running statistics, and it drops nothing.

        Args:
            what: "none"; "all", the whole backbone; "partial", all but the backbone's last stage; or the number of
                its first stages to freeze, of which the stem is one.

        Raises:
            UsageError: the backbone has fewer stages.
        """
        stages = self.backbone.layers(coarse=True)
        counts = {"none": 0, "partial": len(stages) - 1, "all": len(stages)}
        count = counts[what] if isinstance(what, str) else what
        if count > len(stages):
            raise UsageError(
                f"{count} stages cannot be frozen: {self.configuration.backbone} has {len(stages)}, the stem "
                f"included; set freeze to at most {len(stages)}"
            )
        frozen = {name for stage in stages[:count] for name in stage}
        for name, parameter in self.backbone.named_parameters():
            parameter.requires_grad_(name not in frozen)
        self.train(self.training)

    def train(self, mode: bool = True) -> CheXVision:
        """As `nn.Module.train`; modules whose parameters are all frozen stay in evaluation mode."""
        super().train(mode)
        if mode:
            for module in self.backbone.modules():
                parameters = list(module.parameters())
                if parameters and not any(parameter.requires_grad for parameter in parameters):
                    module.eval()
        return self

    def _save_pretrained(self, save_directory: Path) -> None:
        super()._save_pretrained(save_directory)
        # The mixin would write the constructor's arguments, of any type and without a format.
        config = self.configuration.model_copy(update={"preprocessing": self.preprocessing})
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
        model = fetch_model(reference, map_location, **client)
        model.published = read_published(reference, **client)
        model.published.refuse_others(model.label_space)
        return model


def fetch_model(reference: Reference, map_location: str = "cpu", **client: Any) -> CheXVision:
    """The model in a folder or on the Hub, in evaluation mode, without what it was published with.

    Args:
        reference: of the Hub at a commit.
        map_location: device that the weights are read to before they are copied into the model.
        client: further options of `huggingface_hub.hf_hub_download`.

    Raises:
        ChexError: it cannot be fetched or read, or is not a complete CheXVision model.
    """
    config = model_file(reference, CONFIG, **client)
    weights = model_file(reference, WEIGHTS, **client)
    if config is None and model_file(reference, ENSEMBLE, **client) is not None:
        raise ChexError(f"{reference} is an ensemble of models; load it with chexvision.load_predictor")
    if config is None or weights is None:
        raise ChexError(f"{reference} has no {WEIGHTS}; pickled weights are never loaded")
    return model_from_files(config, weights, map_location)


def model_from_files(config: Path, weights: Path, map_location: str = "cpu") -> CheXVision:
    """The model of a ``config.json`` and a ``model.safetensors``, which may be untrusted, in evaluation mode.

    Raises:
        ChexError: a file cannot be read, or they are not of one complete CheXVision model.
    """
    checked = read_config(config)
    # The configuration may name any network of timm: no memory is allocated for one that the file is not of.
    check_sizes(without_memory(checked), weights)
    model = configured(checked)
    load_weights(model, weights, map_location)
    return model.eval()


def without_memory(config: CheXVisionConfig) -> CheXVision:
    """The model of a configuration on the meta device, after one image has passed it there.

    Raises:
        ChexError: the network cannot be built or used: with these images, this pooling, or by this package at all.
    """
    side = config.preprocessing.image_size
    try:
        with torch.device("meta"), torch.no_grad():
            model = configured(config).eval()
            model(torch.empty(1, 3, side, side))
            for coarse in (True, False):
                model.backbone.layers(coarse=coarse)
    except ChexError:
        raise
    # timm has more than a thousand networks: some are built or called in other ways, or assert sizes of features.
    except Exception as error:
        detail = " ".join(str(error).split())[:200] or type(error).__name__
        raise ChexError(
            f"{config.backbone} cannot be used with images of {side} pixels and {config.pooling} pooling: {detail}"
        ) from error
    return model


def configured(config: CheXVisionConfig) -> CheXVision:
    """The model of a configuration, with random weights."""
    return CheXVision(**{name: getattr(config, name) for name in type(config).model_fields if name != "format"})


def _reference(name: str | Path, revision: str | None) -> Reference:
    if revision is not None:
        return RepoRef(str(name), revision)
    return name if isinstance(name, Path) else parse_reference(name)


def build_backbone(name: str, image_size: int, drop_path: float) -> Backbone:
    """The network `name` of the registry, or of timm, with random weights.

    Raises:
        ChexError: there is no such network, or it does not take the image size or the drop path.
    """
    known = facts(name)
    if not known.builder:
        return timm_backbone(known.timm, known.arguments, image_size, drop_path)
    module, _, function = known.builder.partition(":")
    network = getattr(import_module(module), function)(image_size, drop_path)
    if not isinstance(network, Backbone):
        raise TypeError(f"{known.builder} built {type(network).__name__}, not a Backbone")
    return network
