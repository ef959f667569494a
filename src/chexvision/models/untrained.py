"""The untrained model of a recipe."""

from __future__ import annotations

import torch

from chexvision.config.recipe import Recipe
from chexvision.images.preprocessing import Preprocessing
from chexvision.labels import NIH, LabelSpace
from chexvision.models.classifier import CheXVision, configured, without_memory
from chexvision.models.initial_weights import FileWeights, apply_weights, fetch_weights
from chexvision.models.model_config import CheXVisionConfig
from chexvision.models.normalize import mean_and_std


def build_model(recipe: Recipe, label_space: LabelSpace = NIH, weights: FileWeights | None = None) -> CheXVision:
    """The untrained model of a recipe, initialized from its seed and its `model.weights`.

    Args:
        recipe: what to build.
        label_space: of the data.
        weights: of `fetch_weights`, which is called where they are left out.

    Raises:
        UsageError: see `fetch_weights`; or a phase, of which the first may take hours, freezes more stages than there
            are.
        ChexError: the weights cannot be fetched or are of another network, or the network cannot be built or used.
    """
    weights = fetch_weights(recipe.model) if weights is None else weights
    mean, std = mean_and_std(recipe.model.backbone)
    config = CheXVisionConfig(
        backbone=recipe.model.backbone,
        hidden_features=recipe.model.hidden_features,
        dropout=recipe.model.dropout,
        label_space=label_space,
        preprocessing=Preprocessing(image_size=recipe.data.image_size, clahe=recipe.data.clahe, mean=mean, std=std),
        pooling=recipe.model.pooling,
        drop_path=recipe.model.drop_path,
    )
    checked = without_memory(config)
    for phase in recipe.training.phases:
        checked.freeze(phase.freeze)
    torch.manual_seed(recipe.training.seed)
    model = configured(config)
    if weights is not None:
        model.initialized = apply_weights(model, weights)
    return model
