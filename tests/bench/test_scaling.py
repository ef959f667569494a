"""From rates to hours: known inputs, and what must follow when one of them changes."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chexvision.bench.scaling import SETTINGS, Cluster, Rates, estimate, known_clusters, read_cluster
from chexvision.cli import main
from chexvision.errors import UsageError
from tests.training import runs

RATES = Rates(
    original_bytes=400_000,
    stored_bytes=50_000,
    image_size=320,
    build_per_core=100.0,
    decode_per_core=1000.0,
    parameters=10_000_000,
)
CLUSTER = Cluster(
    nodes=2,
    gpus_per_node=4,
    images_per_second=100,
    micro_batch=25,
    cores_per_node=10,
    memory_gb=100,
    disk_gb=1000,
    disk_mb_per_second=500,
    network_mb_per_second=100,
    fabric_mb_per_second=1000,
)


def test_hours_of_known_rates() -> None:
    of = estimate(3_600_000, RATES, CLUSTER)
    assert (of.originals, of.shards, of.decoded) == (1.44e12, 1.8e11, 3_600_000 * 320**2)
    assert of.decoded_per_node == of.decoded / 2
    assert of.build_core_hours == pytest.approx(10)
    # 20 cores need half an hour, reading 1.44 TB at 200 MB/s two hours.
    assert of.build == pytest.approx(2.0) and of.build_limit == "network"
    assert of.download == pytest.approx(0.25)
    assert of.decode == pytest.approx(0.05)
    assert of.epoch_gpus == pytest.approx(1 / (8 * 100 * 0.9) * 1000)
    # 184 GB a node, of which memory holds 80.
    assert of.kept_in == "disk"
    assert of.epoch_disk == pytest.approx((of.decoded / 2 - 80e9) / 500e6 / 3600)
    # 18,000 steps, in each of which a node sends its 40 MB twice, but for its half.
    assert of.batch_size == 200
    assert of.epoch_fabric == pytest.approx(18_000 * 40e6 / 1e9 / 3600)
    assert of.epoch == of.epoch_gpus and of.epoch_limit == "GPUs"


@pytest.mark.parametrize(
    ("changes", "limit"),
    [
        ({}, "GPUs"),
        ({"disk_mb_per_second": 1}, "disk"),
        ({"fabric_mb_per_second": 10}, "network between nodes"),
        ({"disk_gb": 150, "memory_gb": 10}, "too little disk"),
        ({"images_per_second": 1e6, "memory_gb": 1e4}, "network between nodes"),
        ({"images_per_second": 1e6, "memory_gb": 1e4, "nodes": 1}, "GPUs"),
    ],
)
def test_the_bottleneck_moves(changes: dict[str, float], limit: str) -> None:
    of = estimate(3_600_000, RATES, CLUSTER.model_copy(update=changes))
    assert of.epoch_limit == limit and limit in SETTINGS


@given(images=st.integers(1, 10**9), cluster=st.sampled_from(list(known_clusters().values())))
def test_twice_the_images_need_twice_the_storage_and_at_least_twice_the_time(images: int, cluster: Cluster) -> None:
    once, twice = estimate(images, RATES, cluster), estimate(2 * images, RATES, cluster)
    for field in ("originals", "shards", "decoded", "build_core_hours", "build", "download", "decode", "epoch_gpus"):
        assert getattr(twice, field) == pytest.approx(2 * getattr(once, field)), field
    assert twice.epoch >= 2 * once.epoch * (1 - 1e-9)


@given(size=st.sampled_from([160, 224, 320, 640]))
def test_time_and_decoded_size_go_with_the_number_of_pixels(size: int) -> None:
    of, at_320 = (estimate(10**6, replace(RATES, image_size=one), CLUSTER) for one in (size, 320))
    for field in ("decoded", "epoch_gpus"):
        assert getattr(of, field) == pytest.approx(getattr(at_320, field) * (size / 320) ** 2), field


def test_a_cluster_is_named_and_changed() -> None:
    name, cluster = read_cluster("8xA100,nodes=2,memory_gb=512")
    assert name == "8xA100,nodes=2,memory_gb=512"
    assert (cluster.nodes, cluster.memory_gb, cluster.gpus) == (2, 512, 16)
    assert read_cluster("2xT4")[1] == known_clusters()["2xT4"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("9xA100", "known are 2xT4, 8xA100, 64xH100"),
        ("2xT4,nodes=0", "nodes: Input should be greater than or equal to 1"),
        ("2xT4,nodes", "nodes: Input should be a valid integer"),
        ("2xT4,gpus=3", "gpus: Extra inputs are not permitted"),
        ("2xT4,memory_gb=inf", "memory_gb: Input should be a finite number"),
        ("2xT4,memory_gb=-1", "memory_gb: Input should be greater than 0"),
    ],
)
def test_a_cluster_that_cannot_be_read_is_one_line(text: str, message: str) -> None:
    with pytest.raises(UsageError) as refused:
        read_cluster(text)
    assert message in str(refused.value) and "\n" not in str(refused.value)


def test_the_command_measures_rates_and_prints_tables(
    synthetic_shards: Path, real_data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert runs  # registers the tiny backbone
    recipe = tmp_path / "tiny.yaml"
    recipe.write_text("extends: scratch\nmodel: {backbone: tiny}\n")
    films = tmp_path / "films"
    films.mkdir()
    for image in sorted((real_data / "nih-sample").rglob("*.png"))[:3]:
        (films / image.name).symlink_to(image)
    words = ["--data", synthetic_shards, "--radiographs", films, "--model", recipe, "--size", 32, "--batch", 4]
    words += ["--images", 1000, "--images", 2000, "--cluster", "2xT4", "--cluster", "64xH100,nodes=2"]
    with pytest.raises(SystemExit) as ended:
        main(["bench", "scaling", *map(str, words)])
    printed = capsys.readouterr()
    assert ended.value.code == 0, printed.err
    rates, *clusters = json.loads(printed.out)
    figures = rates["rows"][0]["figures"]
    assert all(figures[name] > 0 for name in ("disk_mb_per_second", "step_images_per_second", "decode_per_core"))
    assert [report["benchmark"].split(", est")[0] for report in clusters] == ["2xT4", "64xH100,nodes=2"]
    measured = Rates(**{name: figures[name] for name in asdict(RATES)})
    expected = estimate(2000, measured, known_clusters()["2xT4"])
    row = clusters[0]["rows"][1]
    assert row["way"] == "2,000" and row["figures"]["epoch, h"] == expected.epoch
    assert row["figures"]["shards, GB"] == 2 * clusters[0]["rows"][0]["figures"]["shards, GB"]
    assert "an epoch limited by GPUs: training.precision" in printed.err
