"""Published checkpoints of other programs as safetensors with the names of this package's networks.

EVA-X (hustvl/EVA-X, `eva_x_*_patch16_merged520k_mim.pt`), RAD-DINO (microsoft/rad-dino, in the names of Hugging
Face's Dinov2Model), Medical MAE (lambert-x/medical_mae, `vit-s_CXR_0.3M_mae.pth`), and whatever timm itself can read.
"""

from __future__ import annotations

import argparse
import json
import pickle
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file, save
from torch import Tensor

from chexvision.backbones import BACKBONES, facts
from chexvision.errors import ChexError, UsageError
from chexvision.files.atomic import atomic_path, sha256_of
from chexvision.models.initial_weights import METADATA, fitted
from chexvision.models.timm_backbone import TimmBackbone, timm_backbone

# What checkpoints hold beside tensors: their command line, and numbers of NumPy. Constructing these runs no code.
_SCALARS = (np.float32, np.float64, np.int64)
_HARMLESS: list[Any] = [
    argparse.Namespace,
    np.dtype,
    *(type(np.dtype(one)) for one in _SCALARS),
    *((np.float64(0).__reduce__()[0], f"numpy.{core}.multiarray.scalar") for core in ("_core", "core")),
]
_DINOV2 = "embeddings.patch_embeddings.projection.weight"
_DINOV2_NAMES = (
    (r"^(?:dinov2\.)?embeddings\.patch_embeddings\.projection\.", "patch_embed.proj."),
    (r"^(?:dinov2\.)?embeddings\.position_embeddings$", "pos_embed"),
    (r"^(?:dinov2\.)?embeddings\.", ""),
    (r"^(?:dinov2\.)?encoder\.layer\.", "blocks."),
    (r"^(?:dinov2\.)?layernorm\.", "norm."),
    (r"\.attention\.attention\.", ".attn."),
    (r"\.attention\.output\.dense\.", ".attn.proj."),
    (r"\.layer_scale(\d)\.lambda1$", r".ls\1.gamma"),
)
_QUERY = re.compile(r"\.attn\.query\.(weight|bias)$")


@dataclass(frozen=True, slots=True)
class Converted:
    """What was written.

    Args:
        tensors: how many.
        unused: names in the checkpoint that are not part of the network, such as a decoder or a classifier.
        missing: names of the network that the checkpoint lacks.
        license: of the weights; None where it is not known.
        source_sha256: of the checkpoint.
        sha256: of the file written.
    """

    tensors: int
    unused: tuple[str, ...]
    missing: tuple[str, ...]
    license: str | None
    source_sha256: str
    sha256: str


def convert_checkpoint(source: Path, out: Path, backbone: str) -> Converted:
    """Write the weights in `source` for the network `backbone` to the new safetensors file `out`.

    Equal checkpoints give equal bytes. No code in a pickled checkpoint is executed.

    Args:
        source: of torch.save, or safetensors.
        out: does not exist yet.
        backbone: a network of timm by its name in `chexvision.backbones`, whose names the tensors get.

    Raises:
        UsageError: there is no such checkpoint, or `out` exists or is not called .safetensors.
        ChexError: the checkpoint is damaged, has code, has values that are not finite, or is of another network.
    """
    if out.suffix != ".safetensors" or out.exists():
        raise UsageError(f"{out} exists; name a new file" if out.exists() else f"{out} does not end in .safetensors")
    if not source.is_file():
        raise UsageError(f"no file {source}")
    known = facts(backbone)
    if not known.timm:
        raise UsageError(f"{backbone} is a network of this package, of which there are no other checkpoints")
    original = _todays_names(_tensors(source))
    with torch.device("meta"):
        network = timm_backbone(known.timm, known.arguments, known.input_size or 224, 0.0)
    tensors, unused, missing = _of_network(network, original, source, backbone)
    license = known.license if backbone in BACKBONES and not known.has_weights else None
    digest = sha256_of(source)
    about = {"backbone": backbone, "license": license, "source": source.name, "source_sha256": digest}
    # A single entry: safetensors writes several in an order that changes from run to run.
    with atomic_path(out) as partial:
        partial.write_bytes(save(tensors, {METADATA: json.dumps(about, sort_keys=True)}))
    return Converted(len(tensors), unused, missing, license, digest, sha256_of(out))


def _tensors(source: Path) -> dict[str, Tensor]:
    """The tensors of a checkpoint by its names."""
    try:
        if source.suffix == ".safetensors":
            return dict(load_file(source))
        with torch.serialization.safe_globals(_HARMLESS):
            tree = torch.load(source, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        found = re.search(r"GLOBAL (\S+)", str(error))
        if found is None:
            raise ChexError(f"{source} is not a checkpoint of torch.save, or has more than tensors in it") from None
        raise ChexError(
            f"{source} has more than tensors in it ({found[1]}) and was not loaded: it may run code"
        ) from None
    except Exception as error:  # a damaged pickle fails in many ways: struct.error, IndexError, AssertionError, ...
        detail = " ".join(str(error).split())[:200] or type(error).__name__
        raise ChexError(f"{source} is damaged: {detail}") from error
    for key in (
        "model_ema",
        "model",
        "module",
        "state_dict",
    ):  # where programs keep the weights, as timm looks for it
        inner = tree.get(key) if isinstance(tree, Mapping) else None
        tree = inner if isinstance(inner, Mapping) else tree
    found_tensors = {
        str(name).removeprefix("module."): value
        for name, value in (tree.items() if isinstance(tree, Mapping) else ())
        if isinstance(value, Tensor)
    }
    if not found_tensors:
        raise ChexError(f"{source} has no tensors by name: it is not a checkpoint of a network")
    for name, tensor in found_tensors.items():
        if tensor.layout is not torch.strided or tensor.is_meta or tensor.is_quantized:
            raise ChexError(f"{source} has values that are not stored one by one, first in {name}: save it dense")
    return found_tensors


def _todays_names(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """The tensors of a Dinov2Model with timm's names; others as they are."""
    if not any(name.endswith(_DINOV2) for name in tensors):
        return tensors
    named: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        for pattern, replacement in _DINOV2_NAMES:
            name = re.sub(pattern, replacement, name)
        named[name] = tensor
    for name in [name for name in named if _QUERY.search(name)]:
        parts = [name.replace(".query.", f".{part}.") for part in ("query", "key", "value")]
        if all(part in named for part in parts):
            named[name.replace(".query.", ".qkv.")] = torch.cat([named.pop(part) for part in parts])
    return named


def _of_network(
    network: TimmBackbone, tensors: dict[str, Tensor], source: Path, backbone: str
) -> tuple[dict[str, Tensor], tuple[str, ...], tuple[str, ...]]:
    """Those tensors that the network has, the names of the checkpoint's others, and of the network's others."""
    wanted = network.network.state_dict()
    given = fitted(network, tensors)
    used = {
        name: given[name].contiguous().clone()
        for name, one in wanted.items()
        if name in given
        and given[name].shape == one.shape
        and given[name].is_floating_point() == one.is_floating_point()
    }
    if sum(one.numel() for one in used.values()) < sum(one.numel() for one in wanted.values()) / 2:
        raise ChexError(f"{source} is not a checkpoint of {backbone}: {len(used)} of its {len(wanted)} tensors fit")
    for name, tensor in used.items():
        if tensor.is_floating_point() and not bool(tensor.isfinite().all()):
            raise ChexError(f"{source} has values that are not finite, first in {name}: it is damaged")
    taken = {id(given[name]) for name in used}  # timm renames tensors without copying them
    unused = sorted(name for name, one in tensors.items() if id(one) not in taken and name not in used)
    return used, tuple(unused), tuple(sorted(wanted.keys() - used.keys()))
