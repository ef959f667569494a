"""Shards that are pushed to a loopback Hub, and changes to them there."""

from __future__ import annotations

from pathlib import Path

from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi

from chexvision.hub.reference import RepoRef
from chexvision.shards.verify import verify_remote
from chexvision.synthetic.synthesize import synthesize
from tests.fakes.hub import FakeHub
from tests.fakes.messages import Request, Response

DATA = "chex/synthetic"


class CountingHub(FakeHub):
    """Knows how many bytes of stored files it has sent."""

    sent = 0

    def cdn(self, request: Request, sha256: str) -> Response:
        response = super().cdn(request, sha256)
        with self.lock:
            self.sent += len(response.body) if request.method == "GET" else 0
        return response

    cdn.__dict__.update(FakeHub.cdn.__dict__)


def draw(folder: Path, *, images: int, size: int, shard_bytes: int) -> Path:
    synthesize(
        folder, images=images, seed=5, size=size, encoding="png", shard_bytes=shard_bytes, workers=2, overwrite=False
    )
    return folder


def failures(reference: RepoRef) -> dict[str, str]:
    return {check.name: "; ".join(check.problems) for check in verify_remote(reference) if not check.ok}


def edit(*operations: CommitOperationAdd | CommitOperationDelete) -> RepoRef:
    return RepoRef(DATA, HfApi().create_commit(DATA, operations, commit_message="edit", repo_type="dataset").oid)
