"""LayerCAM by its definition, on the finer map that explains small images."""

from __future__ import annotations

import torch

from chexvision.inference.gradcam import explain_batch
from chexvision.models.classifier import CheXVision


def test_a_finer_map_weighs_each_cell_by_its_own_positive_gradient() -> None:
    torch.manual_seed(0)
    model = CheXVision(backbone="se_resnet34").eval()
    images = torch.rand(2, 3, 96, 96)
    outputs = [2, 14]
    children = list(model.backbone.children())
    features = torch.nn.Sequential(*children[:3])(images).detach().requires_grad_()
    assert features.shape[2:] == (12, 12)
    logits = torch.cat(list(model.head(torch.nn.Sequential(*children[3:])(features)).values()), dim=1)
    found = explain_batch(model, images, torch.tensor([outputs] * 2))
    assert found.method == "LayerCAM"
    for k, output in enumerate(outputs):
        (gradient,) = torch.autograd.grad(logits[:, output].sum(), features, retain_graph=True)
        assert bool((gradient < 0).any())
        expected = (gradient.relu() * features).sum(dim=1).relu()
        torch.testing.assert_close(found.values[:, k], expected.detach(), atol=1e-7, rtol=1e-3)
