"""From the rates of one core and one GPU to the hours of any number of images on any cluster: arithmetic alone."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from chexvision.errors import UsageError

CLUSTERS = Path(__file__).with_name("clusters.yaml")
# Of a node's memory, what can hold images: the rest is for the processes and the system.
_CACHE_SHARE = 0.8
# Of several GPUs' summed rate, what they reach together. Assumed; `bench processes` measures it for two.
_EFFICIENCY = 0.9
_GRADIENT_BYTES = 4  # of a parameter: gradients are averaged in fp32
_RATE_SIZE = 320  # pixels: of the images of `Cluster.images_per_second`
_HOUR = 3600.0
_Positive = Annotated[float, Field(gt=0)]
_Count = Annotated[int, Field(ge=1)]

# Which setting moves each bottleneck of an epoch.
SETTINGS = {
    "GPUs": "training.precision, data.image_size, a smaller network, more GPUs",
    "disk": "more nodes or memory, a smaller data.image_size",
    "network between nodes": "a larger optim.batch_size: fewer averages of the gradients",
    "too little disk": "more nodes, each of which keeps its share; a smaller data.image_size",
}


class Cluster(BaseModel):
    """Machines that are alike.

    Args:
        nodes: how many machines.
        gpus_per_node: GPUs of each.
        images_per_second: of 320 x 320 pixels, that one GPU trains on; other sizes in proportion to their pixels.
        micro_batch: images of a forward pass, at which it does.
        cores_per_node: CPU cores of each.
        memory_gb: of each, in 10⁹ bytes, as all sizes here.
        disk_gb: local, of each.
        disk_mb_per_second: read from that disk.
        network_mb_per_second: from where the images are stored, into each node.
        fabric_mb_per_second: between nodes, out of each one.
        basis: where the figures come from.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    nodes: _Count
    gpus_per_node: _Count
    images_per_second: _Positive
    micro_batch: _Count
    cores_per_node: _Count
    memory_gb: _Positive
    disk_gb: _Positive
    disk_mb_per_second: _Positive
    network_mb_per_second: _Positive
    fabric_mb_per_second: _Positive
    basis: str = "given"

    @property
    def gpus(self) -> int:
        """Of all nodes."""
        return self.nodes * self.gpus_per_node

    @property
    def cores(self) -> int:
        """Of all nodes."""
        return self.nodes * self.cores_per_node


@dataclass(frozen=True, slots=True)
class Rates:
    """What was measured.

    Args:
        original_bytes: of a radiograph as it is released.
        stored_bytes: of an image in a shard.
        image_size: side in pixels.
        build_per_core: radiographs that a core turns into stored images, per second.
        decode_per_core: stored images that a core decodes, per second.
        parameters: of the network.
    """

    original_bytes: float
    stored_bytes: float
    image_size: int
    build_per_core: float
    decode_per_core: float
    parameters: int


@dataclass(frozen=True, slots=True)
class Estimate:
    """What a number of images needs. Sizes in bytes, times in hours.

    Args:
        originals: size of the radiographs.
        shards: size of the stored images.
        decoded: size of the decoded images, of all nodes together.
        decoded_per_node: of it, what one node keeps: its share.
        build_core_hours: of one core.
        build: of all cores, or of reading the originals from storage, whichever takes longer.
        build_limit: "cores" or "network".
        download: of each node's share of the shards.
        decode: of it, by the node's cores.
        kept_in: where an epoch reads the images: "memory", "disk", or "nowhere" if no disk holds them.
        epoch_gpus: an epoch, if only the GPUs limited it.
        epoch_disk: the same of reading what memory does not hold.
        epoch_fabric: the same of averaging gradients between nodes.
        epoch: the longest of the three; they overlap.
        epoch_limit: a key of `SETTINGS`.
        batch_size: the smallest at which each GPU gets a whole micro-batch.
    """

    originals: float
    shards: float
    decoded: float
    decoded_per_node: float
    build_core_hours: float
    build: float
    build_limit: str
    download: float
    decode: float
    kept_in: str
    epoch_gpus: float
    epoch_disk: float
    epoch_fabric: float
    epoch: float
    epoch_limit: str
    batch_size: int


def estimate(images: int, rates: Rates, cluster: Cluster) -> Estimate:
    """The sizes and hours of `images` on a cluster whose nodes divide them among each other."""
    decoded = images * float(rates.image_size) ** 2
    per_node = decoded / cluster.nodes
    core_hours = images / rates.build_per_core / _HOUR
    network = cluster.network_mb_per_second * 1e6 * cluster.nodes
    by_cores, by_network = core_hours / cluster.cores, images * rates.original_bytes / network / _HOUR
    memory = _CACHE_SHARE * cluster.memory_gb * 1e9
    kept_in = "memory" if per_node <= memory else "disk" if per_node <= cluster.disk_gb * 1e9 else "nowhere"
    rate = cluster.images_per_second * (_RATE_SIZE / rates.image_size) ** 2
    gpus = images / (rate * cluster.gpus * (_EFFICIENCY if cluster.gpus > 1 else 1.0)) / _HOUR
    disk = max(0.0, per_node - memory) / (cluster.disk_mb_per_second * 1e6) / _HOUR
    batch_size = cluster.gpus * cluster.micro_batch
    # A ring sends each node's gradients twice, but for its own part.
    averaged = 2 * (cluster.nodes - 1) / cluster.nodes * rates.parameters * _GRADIENT_BYTES
    fabric = images / batch_size * averaged / (cluster.fabric_mb_per_second * 1e6) / _HOUR
    limits = {"GPUs": gpus, "disk": disk, "network between nodes": fabric}
    limit = "too little disk" if kept_in == "nowhere" else max(limits, key=lambda name: limits[name])
    return Estimate(
        originals=images * rates.original_bytes,
        shards=images * rates.stored_bytes,
        decoded=decoded,
        decoded_per_node=per_node,
        build_core_hours=core_hours,
        build=max(by_cores, by_network),
        build_limit="cores" if by_cores >= by_network else "network",
        download=images * rates.stored_bytes / network / _HOUR,
        decode=images / (rates.decode_per_core * cluster.cores) / _HOUR,
        kept_in=kept_in,
        epoch_gpus=gpus,
        epoch_disk=disk,
        epoch_fabric=fabric,
        epoch=max(limits.values()),
        epoch_limit=limit,
        batch_size=batch_size,
    )


def known_clusters() -> dict[str, Cluster]:
    """The clusters of ``clusters.yaml`` by name."""
    return {name: Cluster.model_validate(of) for name, of in yaml.safe_load(CLUSTERS.read_text("utf-8")).items()}


def read_cluster(text: str) -> tuple[str, Cluster]:
    """The name and figures of a cluster: a known name, or ``NAME,KEY=VALUE,…`` with what differs from that one.

    Raises:
        UsageError: neither.
    """
    name, *changes = text.split(",")
    known = known_clusters()
    if name not in known:
        raise UsageError(f"--cluster {name}: known are {', '.join(known)}, also with changes: NAME,nodes=2")
    parts = [change.partition("=") for change in changes]
    try:
        changed = known[name].model_dump() | {key.strip(): value.strip() for key, _, value in parts}
        return text, Cluster.model_validate(changed)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise UsageError(f"--cluster {text}: {where}: {first['msg']}") from None
