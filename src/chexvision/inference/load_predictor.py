"""A published model or ensemble, ready to answer; the one place where the engine is chosen."""

from __future__ import annotations

import platform
import sys
from importlib.util import find_spec
from pathlib import Path
from shutil import which
from typing import TYPE_CHECKING, Literal, TypeAlias, get_args

from chexvision.config.test_time import Tta
from chexvision.errors import ChexError, UsageError
from chexvision.hub.reference import Reference, RepoRef, parse_reference
from chexvision.predict.engine import Engine
from chexvision.predict.predictor import Predictor
from chexvision.predict.published import Published, read_published
from chexvision.runtime.exported import find_export, is_exported

if TYPE_CHECKING:
    from chexvision.inference.device import DeviceName, Precision

EngineName: TypeAlias = Literal["auto", "torch", "onnx", "openvino"]


def load_predictor(
    reference: str | Path | RepoRef,
    engine: EngineName = "auto",
    device: DeviceName = "auto",
    precision: Precision = "fp32",
    tta: Tta = "none",
) -> Predictor:
    """Load a published model or ensemble with its calibration, thresholds and input check, all of one commit.

    Args:
        reference: a folder, or ``USER/REPO[@REVISION]`` on the Hub.
        engine: what computes it. "onnx" and "openvino" compute exported models on a CPU, without torch; "auto" is
            the first of OpenVINO and onnxruntime that is installed if the model is exported, torch if it is not or
            where there is a GPU.
        device: "auto" is the first of cuda, mps and cpu that there is.
        precision: "auto" is faster, "fp32" the same on every machine.
        tta: the test-time augmentation.

    Raises:
        UsageError: there is no such folder, engine or device, or they do not go together.
        ChexError: it cannot be fetched, or is damaged or something else.

    Examples:
        >>> predictor = load_predictor("user/repo")
        >>> print(predictor.predict("chest.png"))
    """
    published = read_published(_parsed(reference))
    chosen = _engine(published, engine, device, precision, tta)
    published.refuse_others(chosen.label_space)
    return Predictor(chosen, published.facts, published.points, published.check)


def _engine(published: Published, engine: EngineName, device: DeviceName, precision: Precision, tta: Tta) -> Engine:
    if engine not in get_args(EngineName):
        raise UsageError(f"there is no engine {engine!r}; known are {', '.join(get_args(EngineName))}")
    needs_torch = _needs_torch(device, precision, tta)
    if engine in ("onnx", "openvino") and needs_torch:
        raise UsageError(f"the engine {engine} does not compute {needs_torch}; use the engine torch")
    if engine == "auto":
        engine = "torch" if needs_torch else _best(published, device)
    if engine == "torch":
        if find_spec("torch") is None:
            raise ChexError(_without_torch(published, needs_torch))
        from chexvision.artifact.load import load_ensemble
        from chexvision.inference.torch_engine import TorchEngine

        return TorchEngine(load_ensemble(published.reference), device, precision, tta, published.check)
    if find_spec(_PACKAGES[engine]) is None:
        raise ChexError(f"the engine {engine} is not installed; install it with: pip install {_PACKAGES[engine]}")
    exported = find_export(published)
    if exported is None:
        raise ChexError(
            f"{published.reference} has no exported model; use the engine torch, or export it with chexvision export "
            f"{published.reference}"
        )
    if engine == "openvino":
        from chexvision.runtime.openvino_engine import OpenVinoEngine

        return OpenVinoEngine(exported, "auto" if precision == "auto" else "fp32")
    from chexvision.runtime.onnx_engine import OnnxEngine

    return OnnxEngine(exported)


_PACKAGES = {"onnx": "onnxruntime", "openvino": "openvino"}


def _needs_torch(device: DeviceName, precision: Precision, tta: Tta) -> str:
    """What of the options only torch computes, in words; empty where nothing is."""
    if tta != "none":
        return f"test-time augmentation ({tta})"
    if device not in ("auto", "cpu"):
        return f"on {device}"
    return f"in {precision}" if precision not in ("auto", "fp32") else ""


def _best(published: Published, device: DeviceName) -> EngineName:
    """The engine of "auto", see `load_predictor`."""
    if (device == "auto" and _has_gpu()) or not is_exported(published):
        return "torch"
    installed: list[EngineName] = [name for name in ("openvino", "onnx") if find_spec(_PACKAGES[name]) is not None]
    return installed[0] if installed else "torch"


def _has_gpu() -> bool:
    """Whether torch would use a GPU. It is imported only where there may be one, since that takes seconds."""
    nvidia = Path("/dev/nvidiactl").exists() or Path("/dev/dxg").exists() or which("nvidia-smi") is not None
    apple = sys.platform == "darwin" and platform.machine() == "arm64"
    if not (nvidia or apple) or find_spec("torch") is None:
        return False
    import torch

    return torch.cuda.is_available() or torch.backends.mps.is_available()


def _without_torch(published: Published, needs_torch: str) -> str:
    install = "install it with: pip install 'chexvision[train]'"
    if needs_torch:
        return f"only torch computes {needs_torch}; {install}"
    if not is_exported(published):
        return (
            f"{published.reference} has no exported model, and torch is not installed: {install}; or export it where "
            f"torch is, with chexvision export {published.reference}"
        )
    return f"torch is not installed; {install}, or use an exported model with: pip install 'chexvision[predict]'"


def _parsed(reference: str | Path | RepoRef) -> Reference:
    return parse_reference(reference) if isinstance(reference, str) else reference
