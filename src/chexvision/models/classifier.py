"""The dual-head classifier: one backbone, K findings and normal/abnormal."""

from __future__ import annotations

from pathlib import Path
from typing import Any, overload

import torch
from huggingface_hub import PyTorchModelHubMixin
from pydantic import ValidationError
from torch import Tensor, nn

from chexvision.config.recipe import Pooling
from chexvision.config.weights_source import WeightsReport
from chexvision.errors import ChexError
from chexvision.files.atomic import write_text_atomic
from chexvision.files.json_files import first_problem
from chexvision.hub.reference import Reference, RepoRef, parse_reference
from chexvision.hub.repo_files import CONFIG, ENSEMBLE, WEIGHTS, at_commit, model_file
from chexvision.images.preprocessing import Preprocessing
from chexvision.labels import NIH, LabelSpace
from chexvision.models.build_backbone import build_backbone
from chexvision.models.model_config import CheXVisionConfig, read_config
from chexvision.models.network_engine import predictor_of
from chexvision.models.normalize import plain
from chexvision.models.pooling import FeaturePooling
from chexvision.models.transform import AnyImage, RadiographTransform, without_torch
from chexvision.models.weights import check_sizes, load_weights
from chexvision.predict.answer import Answer
from chexvision.predict.predictor import BATCH
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
        >>> print(model.predict("chest.png"))
        >>> model(model.preprocess(["a.png", "b.dcm"]))["multilabel_logits"].sigmoid()
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

    @property
    def transform(self) -> RadiographTransform:
        """Turns one image into float32[3, S, S], as `preprocess` does, for a data set or a loader."""
        return RadiographTransform(self.preprocessing)

    def preprocess(self, images: AnyImage | list[Any] | tuple[Any, ...], *, any_view: bool = False) -> Tensor:
        """Images as `forward` takes them, prepared as in training: float32[B, 3, S, S] on the model's device.

        Args:
            images: one, or a list; see `RadiographTransform.forward`.
            any_view: see `chexvision.images.reading.read_radiograph`.

        Raises:
            UsageError: an image cannot be read.
        """
        transform = RadiographTransform(self.preprocessing, any_view)
        listed = images if isinstance(images, list | tuple) else [images]
        return torch.stack([transform(image) for image in listed]).to(next(self.parameters()).device)

    @overload
    def predict(self, images: AnyImage, *, any_view: bool = False, batch_size: int = BATCH) -> Answer: ...

    @overload
    def predict(
        self, images: list[Any] | tuple[Any, ...], *, any_view: bool = False, batch_size: int = BATCH
    ) -> list[Answer]: ...

    def predict(
        self, images: AnyImage | list[Any] | tuple[Any, ...], *, any_view: bool = False, batch_size: int = BATCH
    ) -> Answer | list[Answer]:
        """Answer for one image, or for each of a list, on the model's device and in evaluation mode.

        A model that was not loaded by `from_pretrained` answers with raw probabilities, without thresholds.

        Args:
            images: see `RadiographTransform.forward`.
            any_view: see `chexvision.images.reading.read_radiograph`.
            batch_size: images per forward pass.

        Raises:
            UsageError: an image cannot be read; the message says which and why.
            ChexError: the model computes something that is not a number.
        """
        given = [*map(without_torch, images)] if isinstance(images, list | tuple) else without_torch(images)
        training = self.training
        self.eval()
        try:
            answers: Answer | list[Answer] = predictor_of(self).predict(
                given, any_view=any_view, batch_size=batch_size
            )
            return answers
        finally:
            self.train(training)

    def freeze(self, what: str | int) -> None:
        """Choose which parameters learn, see `Backbone.freeze`. Those of the dual head always do.

        Raises:
            UsageError: the backbone has fewer stages.
        """
        self.backbone.freeze(what, self.configuration.backbone)
        self.train(self.training)

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
