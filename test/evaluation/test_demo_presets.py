"""Presets side by side in the demo: whose time is whose, and what summary and report say of it."""

from __future__ import annotations

import json
import math

import cv2
import numpy as np
import pytest

pytest.importorskip('matplotlib')

from efficientvla_ros.evaluation.demo_presets import PlanTimes, PresetFigures, speed_up
from efficientvla_ros.evaluation.demo_report import write_report
from efficientvla_ros.evaluation.demo_summary import DemoSummary, EpisodeRow
from efficientvla_ros.evaluation.video import PRESETS_HEIGHT, Caption, annotate

DENSE, COMBINED = PresetFigures('dense', 6, 5, 0.046), PresetFigures('combined', 6, 5, 0.019)


def row(episode: int, task: str, preset: str, success: bool = True) -> EpisodeRow:
    outcome = 'success' if success else 'timeout'
    return EpisodeRow(
        episode, episode // 2, 'pick orange', False, False, success, outcome, 'orange', 20, 4.2,
        'pick orange', task, preset,
    )  # fmt: skip


def compared() -> DemoSummary:
    summary = DemoSummary(
        settings={'task': 'all'}, compared=('dense', 'combined'), measured='combined'
    )
    for index in range(6):
        task, preset = ('pick', 'move_near', 'pick')[index // 2], summary.compared[index % 2]
        summary.episodes.append(row(index, task, preset, success=index != 3))
        summary.plan_times.begin(preset, 20 * index)
        summary.plan_times.take((0.046, 0.019)[index % 2], 20 * index + 20)
    return summary


def test_time_of_a_plan_is_that_of_the_preset_that_was_in_force():
    times = PlanTimes()
    times.take(9.0, 5)  # before anything counts
    times.begin('dense', 10)
    times.take(0.5, 11)
    times.take(0.05, 30)  # the newest of a stretch stands for it
    times.begin('', 30)
    times.take(7.0, 40)  # while the preset changes
    times.begin('combined', 40)
    times.take(0.0, 40)  # the node's window is still empty
    assert math.isnan(times.median('combined'))
    times.take(0.02, 60)
    assert (times.median('dense'), times.median('combined')) == (0.05, 0.02)
    assert math.isnan(times.median('cache'))


def test_stretches_are_weighed_by_their_plans():
    times = PlanTimes()
    for seconds, plans in ((0.08, 5), (0.05, 40), (0.04, 10)):
        times.begin('dense', 0)
        times.take(seconds, plans)
    assert times.median('dense') == 0.05


def test_speed_up_is_said_only_when_both_times_are_known():
    assert speed_up((DENSE, COMBINED)) == '2.4x'
    assert speed_up((DENSE, PresetFigures('combined'))) == ''
    assert speed_up(()) == ''
    assert PresetFigures('combined').short == 'combined - ms 0/0'
    assert DENSE.short == 'dense 46 ms 5/6'


def test_summary_has_presets_and_tasks_where_there_are_several(tmp_path):
    compared().write_json(tmp_path / 's.json')
    data = json.loads((tmp_path / 's.json').read_text(), parse_constant=pytest.fail)
    assert list(data['presets']) == ['dense', 'combined']
    dense, combined = data['presets'].values()
    assert (dense['successes'], dense['episodes'], dense['plan_ms_p50']) == (3, 3, 46.0)
    assert (combined['successes'], combined['episodes'], combined['plan_ms_p50']) == (2, 3, 19.0)
    low, high = combined['success_interval_95']
    assert low < 2 / 3 < high
    assert {name: (t['successes'], t['episodes']) for name, t in data['tasks'].items()} == {
        'pick': (4, 4), 'move_near': (1, 2),
    }  # fmt: skip
    assert data['latency_ms']['preset'] == 'combined'
    assert (data['rows'][3]['task'], data['rows'][3]['preset']) == ('move_near', 'combined')


def test_summary_of_a_comparison_without_a_plan_is_valid_json(tmp_path):
    DemoSummary(settings={}, compared=('dense', 'cache')).write_json(tmp_path / 's.json')
    data = json.loads((tmp_path / 's.json').read_text(), parse_constant=pytest.fail)
    assert data['presets']['cache']['plan_ms_p50'] is None


def test_summary_of_one_task_and_preset_has_neither_section():
    summary = DemoSummary(settings={}, episodes=[row(0, 'pick', ''), row(1, 'pick', '')])
    data = summary.as_dict()
    assert not {'presets', 'tasks'} & set(data)
    assert 'preset' not in data['latency_ms']


@pytest.mark.parametrize('summary', [compared(), DemoSummary({}, compared=('dense', 'cache'))])
def test_report_has_room_for_the_comparison(summary, tmp_path):
    write_report(tmp_path / 'with.png', summary)
    summary.compared = ()
    write_report(tmp_path / 'without.png', summary)
    pages = [cv2.imread(str(tmp_path / name)) for name in ('with.png', 'without.png')]
    assert pages[0].shape[0] > pages[1].shape[0]


def test_caption_shows_both_presets_and_which_one_is_in_force():
    image = np.full((448, 448, 3), 90, np.uint8)
    alone = annotate(image, Caption('pick orange', 'episode 1/12', latency=0.1))
    pair = Caption('pick orange', 'episode 1/12', latency=0.1, presets=(DENSE, COMBINED))
    both = annotate(image, pair)
    assert both.shape[0] == alone.shape[0] + PRESETS_HEIGHT
    assert (both[: len(alone)] == alone).all(), 'everything else stays where it is'
    line = slice(len(alone), None)
    left, right = slice(0, 180), slice(190, 380)

    def brightness(active: str) -> tuple[int, int]:
        caption = Caption(presets=(DENSE, COMBINED), active=active)
        shown = annotate(image, caption)[line]
        return int(shown[:, left].max()), int(shown[:, right].max())

    assert brightness('dense')[0] > brightness('dense')[1]
    assert brightness('combined')[0] < brightness('combined')[1]
    assert both[line, 380:].max() > 150, 'the speed-up'
    unknown = Caption(presets=(DENSE, PresetFigures('combined')))
    assert annotate(image, unknown)[line, 390:].max() < 50


@pytest.mark.parametrize('width', [51, 112, 200, 448])
def test_long_names_of_presets_stay_within_the_picture(width):
    presets = tuple(PresetFigures('every_frame_25', 10_000, 9_999, 12.3) for _ in range(2))
    image = np.full((64, width, 3), 90, np.uint8)
    assert annotate(image, Caption(presets=presets)).shape[1] == width + width % 2
