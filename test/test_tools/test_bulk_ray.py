# Copyright (c) mmface authors. Licensed under the Apache License 2.0.
"""Tests of tools/bulk_ray.py on two local nodes. They need Ray, which CI does not install."""

from __future__ import annotations

import contextlib
import importlib.util
import io
import os
import signal
import sys
import tarfile
import threading
import time
from collections import Counter
from pathlib import Path

import cv2
import numpy as np
import pytest

ray = pytest.importorskip('ray', reason='needs pip install "mmface[ray]"')
pytest.importorskip('onnxruntime')
ray_constants = pytest.importorskip('ray._private.ray_constants')

SHARDS, IMAGES = 8, 25


@pytest.fixture(scope='module')
def cluster():
    from ray.cluster_utils import Cluster

    nodes = Cluster(initialize_head=True, head_node_args={'num_cpus': 2})
    nodes.add_node(num_cpus=2)
    ray.init(address=nodes.address, log_to_driver=False)
    yield nodes
    ray.shutdown()
    nodes.shutdown()


@pytest.fixture
def tool(repo):
    spec = importlib.util.spec_from_file_location('bulk_ray', repo / 'tools/bulk_ray.py')
    module = importlib.util.module_from_spec(spec)
    sys.modules['bulk_ray'] = module
    spec.loader.exec_module(module)
    ray.cloudpickle.register_pickle_by_value(module)
    return module


@pytest.fixture
def shards(tmp_path):
    """Write 200 images into 8 shards, some of them damaged."""
    (tmp_path / 'shards').mkdir()
    rng = np.random.default_rng(0)
    for shard in range(SHARDS):
        with tarfile.open(tmp_path / 'shards' / f'{shard:03}.tar', 'w') as archive:
            for number in range(IMAGES):
                image = rng.integers(0, 256, (300, 400, 3), np.uint8)
                content = cv2.imencode('.jpg', image)[1].tobytes()
                info = tarfile.TarInfo(f'{shard}/{number}.jpg')
                info.size = len(content) if number % 9 else len(content) // 2
                archive.addfile(info, io.BytesIO(content))
    return tmp_path / 'shards'


def _actors(cluster) -> list[int]:
    """Return the processes with a detector: children of the cluster's own raylets."""
    raylets = {
        info.process.pid
        for node in cluster.list_all_nodes()
        for info in node.all_processes[ray_constants.PROCESS_TYPE_RAYLET]
    }
    found = []
    for folder in Path('/proc').glob('[0-9]*'):
        with contextlib.suppress(OSError):
            name = (folder / 'cmdline').read_bytes()
            parent = int((folder / 'stat').read_text().rpartition(')')[2].split()[1])
            if name.startswith(b'ray::MapWorker') and parent in raylets:
                found.append(int(folder.name))
    return found


def _kill_an_actor(cluster, out: Path, killed: list[int]) -> None:
    """Kill a process with a detector when the first result is there."""
    until = time.monotonic() + 300
    while time.monotonic() < until and not list(out.glob('*.parquet')):
        time.sleep(0.01)
    pids = _actors(cluster)
    if pids and len(list(out.glob('*.parquet'))) < SHARDS - 2:
        os.kill(pids[0], signal.SIGKILL)
        killed.append(pids[0])


def test_bulk_ray__a_killed_worker_loses_and_doubles_nothing(cluster, tool, shards, tmp_path):
    import pyarrow.parquet as pq
    from mmface_benchmark.toy_onnx import write_toy_centerface

    from mmface.apis.detect.parquet import detect_shard
    from mmface.apis.detect.shards import find_shards
    from mmface.deploy.runtime import FaceDetector

    model = str(write_toy_centerface(tmp_path / 'toy.onnx'))
    found = find_shards([str(shards)])
    out = tmp_path / 'ray'
    killed: list[int] = []
    thread = threading.Thread(target=_kill_an_actor, args=(cluster, out, killed))
    thread.start()
    rows = tool.run(found, model, 0.3, out, actors=2)
    thread.join()
    assert len(killed) == 1
    assert sorted(row['name'] for row in rows) == [f'{i:03}' for i in range(SHARDS)]
    assert {row['error'] for row in rows} == {''}
    assert {(row['images'], row['failed']) for row in rows} == {(IMAGES, 3)}

    detector = FaceDetector(model, score_thr=0.3, threads=1)
    names: Counter[str] = Counter()
    for shard in found:
        detect_shard(shard, tmp_path / 'single.parquet', detector)
        result = out / f'{shard.name}.parquet'
        assert result.read_bytes() == (tmp_path / 'single.parquet').read_bytes()
        names.update(pq.read_table(result)['image'].to_pylist())
    assert len(names) == SHARDS * IMAGES
    assert set(names.values()) == {1}


def test_bulk_ray__a_damaged_shard_does_not_end_the_others(cluster, tool, shards, tmp_path):
    from mmface_benchmark.toy_onnx import write_toy_centerface

    from mmface.apis.detect.shards import find_shards

    model = str(write_toy_centerface(tmp_path / 'toy.onnx'))
    bad = shards / '003.tar'
    bad.write_bytes(bad.read_bytes()[:9000])
    rows = tool.run(find_shards([str(shards)])[2:5], model, 0.3, tmp_path / 'out', actors=1)
    errors = {row['name']: row['error'] for row in rows}
    assert errors['002'] == errors['004'] == ''
    assert 'cannot be read as a tar file' in errors['003']
    assert sorted(path.name for path in (tmp_path / 'out').iterdir()) == [
        '002.parquet',
        '004.parquet',
    ]
