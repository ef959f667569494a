from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from chexvision.models.classifier import CheXVision
from tests.explain.trained import trained_model, untrained_model


@pytest.fixture(scope="session", autouse=True)
def _one_thread() -> Iterator[None]:
    """Small networks are slower on several threads, the more so with other tests in parallel."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="session")
def trained() -> CheXVision:
    """Has learned `tests.explain.trained.TAUGHT` from synthetic images. Read only."""
    return trained_model()


@pytest.fixture(scope="session")
def model_folder(trained: CheXVision, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The trained model, saved."""
    folder = tmp_path_factory.mktemp("model")
    trained.save_pretrained(folder)
    return folder


@pytest.fixture
def untrained() -> CheXVision:
    return untrained_model()
