"""The demo's summary and report page."""

from __future__ import annotations

import json

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

pytest.importorskip('matplotlib')

from efficientvla_ros.evaluation.demo_report import FilmStrip, key_frame_indices, write_report
from efficientvla_ros.evaluation.demo_summary import (
    DemoSummary,
    EpisodeRow,
    StageLatency,
    StatusSample,
    memory_trend,
)
from efficientvla_ros.types import InputError


def row(episode: int, success: bool = True, changed: bool = False) -> EpisodeRow:
    outcome = 'success' if success else 'wrong_object'
    return EpisodeRow(
        episode, 50 + episode, 'pick orange', changed, changed, success, outcome, 'orange', 20, 4.2
    )


@pytest.fixture
def summary() -> DemoSummary:
    return DemoSummary(
        settings={'task': 'pick', 'model': 'tabletop-pick', 'seed': 50},
        episodes=[row(i, success=i != 1, changed=i in (1, 2)) for i in range(10)],
        stages=[StageLatency('vision', 0.02, 0.03), StageLatency('language', 0.04, 0.05)],
        samples=[
            StatusSample(t, 0.1 + t / 1e4, 0.13, 4.9, 400_000_000 + 1000 * t) for t in range(60)
        ],
    )


def test_summary_counts_by_the_changed_instruction(summary, tmp_path):
    summary.write_json(tmp_path / 'summary.json')
    data = json.loads((tmp_path / 'summary.json').read_text())
    assert (data['episodes'], data['successes'], data['success_rate']) == (10, 9, 0.9)
    low, high = data['success_interval_95']
    assert 0.55 < low < 0.65
    assert 0.97 < high < 1.0
    assert data['instruction_changes'] == {'planned': 2, 'applied': 2, 'successes': 1}
    assert data['latency_ms']['stages']['vision'] == {'p50': 20.0, 'p95': 30.0}
    assert data['latency_ms']['camera_to_command_p50'] == pytest.approx(105.9)
    assert data['rows'][1]['outcome'] == 'wrong_object'
    assert data['worked']
    assert data['hardware']['cores'] >= 1


def test_summary_of_a_run_without_episodes_is_valid_json(tmp_path):
    DemoSummary(settings={}, failure='it broke').write_json(tmp_path / 's.json')
    data = json.loads((tmp_path / 's.json').read_text(), parse_constant=pytest.fail)
    assert (data['episodes'], data['worked'], data['failure']) == (0, False, 'it broke')


def test_memory_growth_is_fitted_after_the_warm_up():
    samples = [
        # 200 MB while the model loads, then 36 MB per hour.
        StatusSample(t, 0.1, 0.1, 5.0, round(2e8 + (2e8 if t > 30 else 0) + 1e4 * t))
        for t in range(600)
    ]
    trend = memory_trend(samples)
    assert trend['slope_mb_per_hour'] == pytest.approx(36.0, rel=0.01)
    assert (trend['start_mb'], trend['seconds']) == (200.0, 599)
    assert trend['end_mb'] == pytest.approx(405.99)


@pytest.mark.parametrize('seconds', [0, 1, 100])
def test_memory_growth_is_not_made_up_from_a_short_run(seconds):
    samples = [StatusSample(t, 0.1, 0.1, 5.0, 10**8) for t in range(seconds)]
    assert memory_trend(samples)['slope_mb_per_hour'] is None


def test_report_shows_the_run(summary, tmp_path):
    frames = [np.full((64, 64, 3), (250, 10, 10), np.uint8)] * 6
    strip = FilmStrip('episode 2', frames, ['0.0 s'] * 6)
    write_report(tmp_path / 'report.png', summary, [strip, strip])
    page = cv2.imread(str(tmp_path / 'report.png'))
    assert page.shape[1] > 1200
    red = (np.abs(page.astype(int) - (10, 10, 250)).max(axis=2) < 12).mean()
    assert red > 0.1, 'the film strips are missing'
    write_report(tmp_path / 'without.png', summary)
    assert cv2.imread(str(tmp_path / 'without.png')).shape[0] < page.shape[0]


@pytest.mark.parametrize(
    'summary',
    [
        DemoSummary(settings={}, failure='the policy node ended (exit code 1)'),
        DemoSummary(settings={'task': 'pick'}, episodes=[row(0)]),
        DemoSummary(settings={}, episodes=[row(0)], stages=[StageLatency('vision', 0.0, 0.0)]),
    ],
    ids=['nothing', 'no latencies', 'zero latencies'],
)
def test_report_of_an_unfinished_run_can_be_drawn(summary, tmp_path):
    write_report(tmp_path / 'report.png', summary, [FilmStrip('empty', [], [])])
    assert cv2.imread(str(tmp_path / 'report.png')) is not None


def test_a_report_that_cannot_be_written_is_named(summary, tmp_path):
    with pytest.raises(InputError, match='cannot be written'):
        write_report(tmp_path / 'missing' / 'report.png', summary)
    with pytest.raises(InputError, match='cannot be written'):
        summary.write_json(tmp_path / 'missing' / 'summary.json')


@settings(deadline=None)  # a loaded machine is no failure
@given(st.integers(0, 500), st.integers(1, 12))
def test_key_frames_cover_the_episode_from_first_to_last(count, wanted):
    indices = key_frame_indices(count, wanted)
    assert indices == sorted(set(indices))
    assert len(indices) == min(count, wanted)
    if count:
        assert indices[0] == 0
        assert all(0 <= index < count for index in indices)
    if count and wanted > 1:
        assert indices[-1] == count - 1
