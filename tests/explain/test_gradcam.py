from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from chexvision.artifact.load import Ensemble
from chexvision.errors import ChexError
from chexvision.explain.audit import explain_subjects
from chexvision.inference.gradcam import FEWEST_CELLS, explain_batch
from chexvision.models.classifier import CheXVision
from tests.explain.trained import SIDE, synthetic_subjects


def _images(count: int, side: int = SIDE) -> Tensor:
    return torch.rand(count, 3, side, side, generator=torch.Generator().manual_seed(0))


def _always(images: Tensor, *outputs: int) -> Tensor:
    return torch.tensor([outputs] * len(images))


def test_a_trained_model_points_at_the_synthetic_finding_and_an_untrained_one_does_not(
    trained: CheXVision, untrained: CheXVision
) -> None:
    subjects = synthetic_subjects(90, seed=9)  # not those of training, one finding each
    hits = {
        name: np.mean([case.measured.pointing for case in explain_subjects(Ensemble((model,)), subjects)[0]])
        for name, model in (("trained", trained), ("untrained", untrained))
    }
    assert hits["trained"] >= 0.8
    assert hits["untrained"] < 0.4


def test_without_a_hidden_layer_grad_cam_equals_cam(trained: CheXVision) -> None:
    """Behind global average pooling and a linear head Grad-CAM is CAM: Zhou et al., CVPR 2016."""
    images = _images(2)
    outputs = [2, 8, 14]
    found = explain_batch(trained, images, _always(images, *outputs))
    with torch.no_grad():
        features = trained.backbone(images)
        weights = torch.cat([trained.multilabel_head.weight, trained.binary_head.weight])[outputs]
        expected = torch.einsum("mc,bchw->bmhw", weights, features).clamp(min=0)
        expected /= features.shape[2] * features.shape[3]
        probabilities = torch.cat(list(trained(images).values()), dim=1).sigmoid()
    assert found.method == "Grad-CAM"
    torch.testing.assert_close(found.values, expected)
    torch.testing.assert_close(found.probabilities, probabilities)


@pytest.mark.parametrize("backbone", ["timm/densenet121.tv_in1k", "se_resnet34"])
@pytest.mark.parametrize(("side", "method", "cells"), [(96, "LayerCAM", 12), (224, "Grad-CAM", 7)])
def test_a_finer_map_is_used_where_the_last_one_is_too_coarse(
    backbone: str, side: int, method: str, cells: int
) -> None:
    model = CheXVision(backbone=backbone).eval()
    found = explain_batch(model, _images(1, side), torch.tensor([[0, 14]]))
    assert (found.method, found.values.shape) == (method, (1, 2, cells, cells))
    assert cells >= FEWEST_CELLS


def test_an_image_too_small_for_any_map_is_explained_by_the_finest() -> None:
    model = CheXVision(backbone="se_resnet34").eval()
    assert explain_batch(model, _images(1, 24), torch.tensor([[0]])).values.shape[2:] == (6, 6)


def test_maps_do_not_depend_on_the_batch_and_are_reproducible(trained: CheXVision) -> None:
    images = _images(3)
    together = explain_batch(trained, images, _always(images, 2, 3))
    again = explain_batch(trained, images, _always(images, 2, 3))
    assert torch.equal(together.values, again.values)
    for i in range(3):
        alone = explain_batch(trained, images[i : i + 1], torch.tensor([[2, 3]]))
        torch.testing.assert_close(alone.values[0], together.values[i])


def test_each_image_can_have_its_own_outputs(trained: CheXVision) -> None:
    images = _images(2)
    mixed = explain_batch(trained, images, torch.tensor([[2], [8]])).values
    torch.testing.assert_close(mixed[0, 0], explain_batch(trained, images, _always(images, 2)).values[0, 0])
    torch.testing.assert_close(mixed[1, 0], explain_batch(trained, images, _always(images, 8)).values[1, 0])


def test_explaining_does_not_change_the_model() -> None:
    model = CheXVision(backbone="se_resnet34")
    model.freeze("all")
    model.train()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    first = explain_batch(model, _images(2), torch.tensor([[0], [0]]))
    assert model.training and not model.backbone.training
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    assert all(parameter.grad is None for parameter in model.parameters())
    assert not any(module._forward_hooks for module in model.modules())
    # Dropout is off: training mode does not affect the explanation.
    torch.testing.assert_close(explain_batch(model.eval(), _images(2), torch.tensor([[0], [0]])).values, first.values)


def test_a_map_is_in_units_of_the_logit_and_all_0_where_nothing_raises_it(trained: CheXVision) -> None:
    model, images = CheXVision(backbone="small", hidden_features=0).eval(), _images(1)
    with torch.no_grad():
        model.multilabel_head.weight.fill_(-1.0)
        assert float(explain_batch(model, images, torch.tensor([[0]])).values.max()) == 0
        model.multilabel_head.weight.fill_(1.0)
        # No contribution is negative: they sum to the logit without its bias.
        raised = model(images)["multilabel_logits"][0, 0] - model.multilabel_head.bias[0]
    values = explain_batch(model, images, torch.tensor([[0]])).values
    assert float(raised) > 0
    torch.testing.assert_close(values.sum(), raised)
    assert float(explain_batch(trained, _images(2), torch.tensor([[2], [2]])).values.min()) >= 0


def test_outputs_that_are_not_finite_are_named() -> None:
    model = CheXVision(backbone="small", hidden_features=0)
    with torch.no_grad():
        model.binary_head.bias.fill_(float("nan"))
    with pytest.raises(ChexError, match="not a number"):
        explain_batch(model, _images(1), torch.tensor([[0]]))
