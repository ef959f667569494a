"""A network and the gradients of its maps as one graph of tensor operations.

Grad-CAM needs gradients of the outputs at one layer. They are traced once, for all outputs together: what the network
computes behind the layer is repeated for each output, and differentiated. A runtime that does not fetch the maps does
not compute it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor, fx, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.fx.experimental.proxy_tensor import make_fx
from torch.fx.experimental.symbolic_shapes import DimDynamic, ShapeEnv, StatelessSymbolicContext
from torch.nn.attention import SDPBackend, sdpa_kernel

from chexvision.errors import ChexError
from chexvision.export.backward import decompositions
from chexvision.inference.gradcam import Maps
from chexvision.inference.recording import exactly, recorded
from chexvision.models.classifier import CheXVision


class NotExportable(ChexError):
    """A network, or its maps, cannot be exported."""


_EXAMPLES = 3  # images of the traced batch; their number is a symbol in the graph


class TracedNetwork(nn.Module):
    """One member, from prepared images to logits, pooled features and maps.

    Args:
        model: in evaluation mode.
        maps: of any images, which show where its maps are computed; None for no maps.

    Raises:
        NotExportable: it cannot be traced, or its maps cannot.
    """

    def __init__(self, model: CheXVision, maps: Maps | None) -> None:
        super().__init__()
        try:
            self._trace(model, maps)
        # timm has more than a thousand networks, and each operation of one may be untraceable in its own way.
        except Exception as error:
            raise NotExportable(
                f"{'the maps of ' if maps else ''}{model.configuration.backbone} cannot be traced: {reason(error)}"
            ) from error

    def _trace(self, model: CheXVision, maps: Maps | None) -> None:
        model.requires_grad_(False)  # gradients of the weights are not needed
        side = model.preprocessing.image_size
        mode = FakeTensorMode(shape_env=ShapeEnv(), allow_non_fake_inputs=True)
        sizes = [DimDynamic.DYNAMIC, DimDynamic.STATIC, DimDynamic.STATIC]
        images = mode.from_tensor(
            torch.zeros(_EXAMPLES, side, side), symbolic_context=StatelessSymbolicContext(dynamic_sizes=sizes)
        )
        names = [] if maps is None else [maps.layer]

        def forward(images: Tensor) -> tuple[Tensor, ...]:
            with recorded(model.backbone, names) as found:
                features = model.features(model.normalize(images))
                logits = model.classify(features)
            return torch.cat(list(logits.values()), dim=1), features, *(cast(Tensor, found[name]) for name in names)

        with exactly(model, "cpu"), torch.no_grad(), sdpa_kernel(SDPBackend.MATH):
            graph = make_fx(forward, decompositions(), tracing_mode="symbolic")(images)
        self.maps: fx.GraphModule | None = None
        self.grid: tuple[int, int] | None = None
        if maps is not None:
            self.maps = _traced_maps(model, maps.method == "LayerCAM", graph)
            (found,) = _results(self.maps)
            height, width = found.meta["val"].shape[2:]
            self.grid = height, width
        graph.graph.eliminate_dead_code()
        self.network = graph

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        """Images float[B, S, S], not normalized, to logits float[B, K + 1], features float[B, C] and, where they are
        traced, maps float[B, K + 1, h, w]."""
        logits, features, *rest = self.network(images)
        return (logits, features) if self.maps is None else (logits, features, self.maps(*rest))


def reason(error: BaseException) -> str:
    """The first line of an error, shortened."""
    return (" ".join((str(error).strip().splitlines() or [""])[0].split()) or type(error).__name__)[:200]


def _traced_maps(model: CheXVision, coarse: bool, graph: fx.GraphModule) -> fx.GraphModule:
    """The graph of the maps from the layer's output and the values that bypass it, which `graph` returns then."""
    tail = _Tail.of(graph)
    logits, pooled, *_ = _results(graph)
    graph.graph.output_node().args = ((logits, pooled, tail.layer, *tail.bypasses),)
    graph.recompile()
    outputs = model.label_space.outputs

    def maps(features: Tensor, *bypasses: Tensor) -> Tensor:
        count, images = len(outputs), features.shape[0]
        repeated = [_repeated(of, count) for of in bypasses]
        pull = torch.func.vjp(lambda of: tail.logits(of, repeated), _repeated(features, count))[1]
        (gradient,) = pull(torch.eye(count)[:, None].expand(count, images, count).reshape(-1, count))
        found = model.backbone.as_map(features)
        gradient = model.backbone.as_map(gradient)
        weights = gradient.clamp(min=0) if coarse else gradient.mean(dim=(2, 3), keepdim=True)
        by_output = weights.reshape(count, images, *weights.shape[1:])
        return (by_output * found).sum(dim=2).clamp(min=0).transpose(0, 1)

    inputs = [node.meta["val"] for node in (tail.layer, *tail.bypasses)]
    traced: fx.GraphModule = make_fx(maps, decompositions(), tracing_mode="symbolic")(*inputs)
    return traced


def _repeated(values: Tensor, count: int) -> Tensor:
    """The batch `count` times, one after the other; windows of an image, which are several, stay in their order."""
    return values.unsqueeze(0).expand(count, *values.shape).flatten(0, 1)


@dataclass(frozen=True, slots=True)
class _Tail:
    """The nodes of a network's graph between the explained layer and the logits."""

    graph: fx.GraphModule
    layer: fx.Node
    bypasses: tuple[fx.Node, ...]  # values of images that they use besides the layer's
    nodes: tuple[fx.Node, ...]  # in order; those that compute sizes are among them
    result: fx.Node

    @classmethod
    def of(cls, graph: fx.GraphModule) -> _Tail:
        result, _, layer = _results(graph)
        needed = _ancestors(result)
        behind: set[fx.Node] = {layer}
        nodes: list[fx.Node] = []
        for node in graph.graph.nodes:
            if node not in needed or node.op == "placeholder" or node is layer:
                continue
            if any(of in behind for of in node.all_input_nodes):
                behind.add(node)
                nodes.append(node)
            elif node.op == "get_attr" or not _of_images(node):
                nodes.append(node)
        inside = {*nodes, layer}
        used = {of for node in nodes if not _is_size(node) for of in node.all_input_nodes} - inside
        bypasses = tuple(node for node in graph.graph.nodes if node in used)
        for node in bypasses:
            if any(not isinstance(side, int) for side in node.meta["val"].shape[1:]):
                raise NotImplementedError("a value has the number of images in another axis than the first")
        return cls(graph, layer, bypasses, tuple(nodes), result)

    def logits(self, layer: Tensor, bypasses: Sequence[Tensor]) -> Tensor:
        values: dict[fx.Node, Any] = {self.layer: layer, **dict(zip(self.bypasses, bypasses, strict=True))}
        for node in self.nodes:
            if node.op == "get_attr":
                values[node] = getattr(self.graph, str(node.target))
            elif _is_size(node):
                values[node] = layer.shape[0]
            else:
                args, kwargs = fx.node.map_arg((node.args, node.kwargs), lambda of: values[of])
                values[node] = node.target(*args, **kwargs)  # type: ignore[operator]
        found: Tensor = values[self.result]
        return found


def _results(graph: fx.GraphModule) -> tuple[fx.Node, ...]:
    """What a graph returns."""
    returned = graph.graph.output_node().args[0]
    nodes = returned if isinstance(returned, list | tuple) else (returned,)
    return tuple(node for node in nodes if isinstance(node, fx.Node))


def _ancestors(node: fx.Node) -> set[fx.Node]:
    found, left = {node}, [node]
    while left:
        for of in left.pop().all_input_nodes:
            if of not in found:
                found.add(of)
                left.append(of)
    return found


def _is_size(node: fx.Node) -> bool:
    """Whether it is the number of images."""
    of = node.args[0] if node.args else None
    return node.target is torch.ops.aten.sym_size.int and isinstance(of, fx.Node) and of.op == "placeholder"


def _of_images(node: fx.Node) -> bool:
    """Whether a value depends on the number of images."""
    value = node.meta.get("val")
    if not isinstance(value, Tensor):
        return not isinstance(value, int | torch.SymInt | torch.SymFloat | torch.SymBool)
    return any(not isinstance(side, int) for side in value.shape)
