"""A long run is summed up from the node's statuses: the first minute does not count."""

from __future__ import annotations

import pytest

from efficientvla_ros.evaluation.soak_report import soak_lines, summarise_soak


def status(second: int, **fields: object) -> dict:
    found: dict = {'stamp': 100.0 + second, 'memory': 400_000_000, 'callback_p95': 1e-4}
    found |= {'callback_max': 5e-4, 'commands_published': second, 'images_received': 30 * second}
    for name in ('ticks', 'ticks_failed', 'ticks_late', 'ticks_held', 'ticks_discarded'):
        found[name] = 0
    for prefix in ('input', 'latency', 'inference'):
        found |= {f'{prefix}_{p}': 0.001 * k for k, p in enumerate(('p50', 'p95', 'p99'), 1)}
    for kind in ('hold', 'intervention'):
        found |= {f'{kind}_names': [], f'{kind}_counts': []}
    return found | fields


def test_windows_of_the_first_minute_do_not_count():
    statuses = [status(second) for second in range(200)]
    statuses[30] |= {'input_p99': 0.5, 'callback_max': 0.3}
    statuses[100] |= {'input_p99': 0.02}
    found = summarise_soak(statuses)
    assert found['duration_s'] == 199.0
    assert found['camera_to_start'] == pytest.approx(
        {'p50': 1.0, 'p95': 2.0, 'p99': 3.0, 'p99_worst': 20.0}
    )
    assert found['callbacks_ms'] == pytest.approx({'p95': 0.1, 'longest': 0.5})


def test_growth_of_memory_is_a_slope_and_not_the_start():
    grows = [status(s, memory=300_000_000 + 1_000 * s + 10**8 * (s > 20)) for s in range(300)]
    memory = summarise_soak(grows)['memory_mb']
    assert memory['slope_per_hour'] == pytest.approx(3.6)
    assert memory['end'] - memory['warm'] == pytest.approx(0.239)


def test_holds_and_interventions_are_those_of_the_run():
    names = ['starting', 'image_too_old']
    statuses = [
        status(0, hold_names=names[:1], hold_counts=[1]),
        status(1, hold_names=names, hold_counts=[1, 2], intervention_names=['step_dropped'],
               intervention_counts=[7], ticks=9, ticks_late=1),
    ]  # fmt: skip
    found = summarise_soak(statuses)
    assert found['holds'] == {'image_too_old': 2}
    assert found['interventions'] == {'step_dropped': 7}
    assert found['ticks']['finished'] == 9 and found['ticks']['late'] == 1
    text = '\n'.join(soak_lines(found))
    assert 'image_too_old 2' in text and 'step_dropped 7' in text


def test_a_run_without_statuses_is_refused():
    with pytest.raises(ValueError, match='1 statuses came'):
        summarise_soak([status(0)])
