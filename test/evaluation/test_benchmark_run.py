"""A benchmark runs engine and baseline in turns, on the same weights, and compares their plans."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

from efficientvla_ros.evaluation import machine_load
from efficientvla_ros.evaluation.benchmark import run_benchmark
from efficientvla_ros.evaluation.latency import measure_latency, speed_up
from efficientvla_ros.evaluation.memory import memory_use
from efficientvla_ros.evaluation.provenance import provenance
from efficientvla_ros.models.config import CONFIGS
from efficientvla_ros.runtime.engine import load_engine
from efficientvla_ros.types import InputError

INSTRUCTION = 'pick the red can'
STAGES = ['preprocess', 'vision', 'language', 'action_head', 'postprocess', 'total']


@pytest.fixture(scope='module')
def engine():
    return load_engine('tabletop-pick', num_ddim_steps=5)


def run(engine, **options) -> dict:
    settings = {'image_shape': (60, 80), 'runs': 2, 'warm_up_runs': 1} | options
    return run_benchmark(engine, INSTRUCTION, **settings)


def test_pipelines_take_turns_on_the_same_images():
    seen: list[tuple[str, int]] = []

    def pipeline(name: str, seconds: float):
        def tick(image: np.ndarray) -> dict[str, float]:
            assert image.shape == (6, 8, 3) and image.dtype == np.uint8
            seen.append((name, int(image.sum())))
            return {'vision': seconds, 'language': seconds * len(seen)}

        return tick

    rounds: list[int] = []
    ticks = {'a': pipeline('a', 1.0), 'b': pipeline('b', 10.0)}
    latency = measure_latency(ticks, (6, 8), 3, rounds.append)
    assert [name for name, _ in seen] == ['a', 'b'] * 3 and rounds == [1, 2, 3]
    images = [total for _, total in seen]
    assert images[::2] == images[1::2] and len(set(images)) == 3
    assert list(latency) == ['a', 'b'] and list(latency['a']) == ['vision', 'language', 'total']
    assert latency['a']['language']['p50'] == 3.0  # of 1, 3, 5
    assert latency['a']['total']['p50'] == 4.0
    assert latency['b']['language']['p50'] == 40.0  # of 20, 40, 60
    assert speed_up(latency['a'], latency['b'])['vision'] == 10.0


def test_without_a_baseline_only_the_engine_is_measured(engine):
    found = run(engine)
    assert set(found) == {'latency_s', 'memory', 'cores_busy_elsewhere'}
    assert list(found['latency_s']) == STAGES


def test_the_eager_baseline_runs_the_same_stages_and_makes_the_same_plan(engine):
    found = run(engine, baseline='eager')
    baseline = found['baseline']
    assert list(baseline['latency_s']) == STAGES and baseline['name'] == 'eager'
    # Trained weights, from image to normalised actions, in float32.
    assert baseline['relative_difference'] <= 1e-4
    for stage in STAGES:
        ratio = baseline['latency_s'][stage]['p50'] / found['latency_s'][stage]['p50']
        assert baseline['speed_up'][stage] == pytest.approx(ratio)


def test_another_plan_of_the_baseline_is_noticed(engine, monkeypatch):
    from efficientvla_ros.evaluation.eager_baseline import EagerBaseline

    sample = EagerBaseline.sample
    monkeypatch.setattr(EagerBaseline, 'sample', lambda *inputs: sample(*inputs) * 1.1)
    found = run(engine, baseline='eager', runs=1)
    assert found['baseline']['relative_difference'] == pytest.approx(0.1 / 1.1, rel=1e-2)


def test_memory_counts_the_parameters_in_their_type(engine):
    from torch import nn

    layer = nn.Linear(10, 20)
    found = memory_use(layer)
    assert found['weights_bytes'] == 4 * 220
    assert found['peak_rss_bytes'] >= found['rss_bytes'] > 50e6
    assert memory_use(layer.bfloat16())['weights_bytes'] == 2 * 220
    left_out = nn.ModuleList([nn.Linear(10, 20, device='meta'), nn.Linear(10, 20)])
    assert memory_use(left_out)['weights_bytes'] == 4 * 220


def test_load_of_other_processes_is_seen_and_the_own_is_not(monkeypatch):
    clock, own, all_cores = [0.0], [0.0], [100.0]
    monkeypatch.setattr(machine_load.time, 'perf_counter', lambda: clock[0])
    monkeypatch.setattr(
        machine_load.psutil,
        'cpu_times',
        lambda: SimpleNamespace(user=all_cores[0], system=1.0, nice=0.0, idle=clock[0]),
    )
    process = SimpleNamespace(cpu_times=lambda: SimpleNamespace(user=own[0], system=0.5))
    monkeypatch.setattr(machine_load.psutil, 'Process', lambda: process)
    load = machine_load.MachineLoad()
    clock[0], own[0], all_cores[0] = 10.0, 8.0, 123.0
    assert load.cores_busy_elsewhere() == pytest.approx(1.5)


def test_an_unknown_baseline_is_refused(engine):
    with pytest.raises(InputError, match="baseline 'lazy' is unknown, expected one of: eager"):
        run(engine, baseline='lazy')


def test_a_policy_that_the_baseline_cannot_run_is_refused_before_any_inference():
    model = SimpleNamespace(config=CONFIGS['openvla-7b'])
    with pytest.raises(InputError, match="model 'openvla-7b' has no diffusion head"):
        run(SimpleNamespace(model=model), baseline='eager')


def test_the_report_names_the_gpu_that_the_policy_ran_on(monkeypatch):
    import torch

    card = SimpleNamespace(name='Some GPU', total_memory=16e9, major=9, minor=0)
    monkeypatch.setattr(torch.cuda, 'get_device_properties', lambda device: card)
    hardware = provenance('cuda:0')['hardware']
    assert hardware['gpu'] == 'Some GPU' and hardware['gpu_memory_gb'] == 16.0
    assert 'gpu' not in provenance('cpu')['hardware']
