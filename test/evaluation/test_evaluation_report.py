"""The report of an evaluation, and going on after an interruption."""

from __future__ import annotations

import json

import pytest

from efficientvla_ros.evaluation.progress_file import ProgressFile
from efficientvla_ros.evaluation.report import (
    build_report,
    compare,
    markdown_table,
    read_report,
    summarise,
    write_json,
)
from efficientvla_ros.evaluation.settings import EvaluationSettings
from efficientvla_ros.types import InputError

SETTINGS = EvaluationSettings(model='expert', episodes=4, seed=10)


def row(seed: int, outcome: str = 'success', **fields) -> dict:
    return {
        'seed': seed, 'instruction': 'pick orange', 'target': 'orange', 'swapped': False,
        'outcome': outcome, 'ticks': 10, 'lifted_object': 'orange', 'inferences': 2,
        'rejected_commands': 0, 'holds': {}, 'interventions': {'step_dropped': 1},
        'stage_seconds': {'vision': [0.01, 0.03], 'total': [0.02, 0.04]}, **fields,
    }  # fmt: skip


def rows(*outcomes: str) -> list[dict]:
    return [row(10 + index, outcome) for index, outcome in enumerate(outcomes)]


def test_the_summary_counts_outcomes_and_adds_up_what_happened():
    summary = summarise(rows('success', 'timeout', 'wrong_object', 'success'))
    assert summary['successes'] == 2
    assert summary['success_rate'] == 0.5
    assert summary['wrong_object'] == 1
    assert summary['wilson_95'] == pytest.approx([0.15, 0.85], abs=0.01)
    assert summary['outcomes'] == {'success': 2, 'timeout': 1, 'wrong_object': 1}
    assert summary['interventions'] == {'step_dropped': 4}
    assert summary['inferences'] == 8
    assert summary['latency_s']['vision']['p50'] == pytest.approx(0.02)
    assert summary['latency_s']['total']['p95'] == pytest.approx(0.04)


def test_a_report_says_on_what_and_with_what_it_was_measured(tmp_path):
    report = build_report(SETTINGS, rows('success', 'success', 'timeout', 'success')[::-1])
    path = tmp_path / 'deep' / 'report.json'
    write_json(path, report)
    back = read_report(path)
    assert back['hardware']['cpu'] and back['hardware']['cores'] >= 1
    assert back['versions']['mujoco'] and back['versions']['numpy']
    assert back['created'].startswith('20')
    assert back['settings']['execute_steps'] == 3
    assert [episode['seed'] for episode in back['episodes']] == [10, 11, 12, 13]
    assert 'stage_seconds' not in back['episodes'][0]
    assert list(tmp_path.glob('deep/*')) == [path]


def test_the_table_has_one_line_for_each_report():
    swapped = EvaluationSettings(
        model='expert', episodes=2, swap_instruction=True, swap_step=3, camera_shift_px=2.0
    )
    table = markdown_table(
        [
            build_report(SETTINGS, rows('success', 'wrong_object')),
            build_report(swapped, rows('success', 'success')),
        ]
    )
    lines = table.splitlines()
    assert len(lines) == 4
    assert '| 1/2 |' in lines[2] and '| 1 |' in lines[2] and '30.0 / 40.0 ms' in lines[2]
    assert 'instruction swapped after 3 periods, camera moved by 2 px' in lines[3]


def test_reports_are_compared_seed_by_seed():
    first = build_report(SETTINGS, rows('success', 'success', 'timeout', 'success'))
    second = build_report(SETTINGS, rows('timeout', 'success', 'timeout'))
    result = compare(first, second)
    assert result == {'pairs': 3, 'first_only': 1, 'second_only': 0, 'p_value': 1.0}
    with pytest.raises(InputError, match='no seed in common'):
        compare(first, build_report(SETTINGS, [row(99)]))


@pytest.mark.parametrize(
    ('content', 'message'),
    [(None, 'cannot be read'), ('{', 'not a JSON file'), ('{}', 'not an evaluation report'),
     ('[]', 'not an evaluation report')],
)  # fmt: skip
def test_a_file_that_is_no_report_is_named(tmp_path, content, message):
    path = tmp_path / 'report.json'
    if content is not None:
        path.write_text(content)
    with pytest.raises(InputError, match=message) as caught:
        read_report(path)
    assert str(path) in str(caught.value)


def test_finished_episodes_are_found_again(tmp_path):
    path = tmp_path / 'report.json'
    first = ProgressFile(path, SETTINGS)
    first.add(row(10))
    first.add(row(12))
    again = ProgressFile(path, SETTINGS)
    assert sorted(again.rows) == [10, 12]
    assert again.rows[12] == row(12)
    again.remove()
    assert ProgressFile(path, SETTINGS).rows == {}


def test_more_episodes_of_the_same_kind_can_be_added(tmp_path):
    path = tmp_path / 'report.json'
    ProgressFile(path, SETTINGS).add(row(10))
    more = EvaluationSettings(model='expert', episodes=400, seed=3)
    assert sorted(ProgressFile(path, more).rows) == [10]


def test_a_line_cut_off_by_a_kill_costs_only_that_episode(tmp_path):
    path = tmp_path / 'report.json'
    first = ProgressFile(path, SETTINGS)
    first.add(row(10))
    with first.path.open('a') as file:
        file.write(json.dumps(row(11))[:40])
    second = ProgressFile(path, SETTINGS)
    assert sorted(second.rows) == [10]
    second.add(row(12))
    assert sorted(ProgressFile(path, SETTINGS).rows) == [10, 12]


def test_episodes_of_other_settings_are_not_mixed_in(tmp_path):
    path = tmp_path / 'report.json'
    ProgressFile(path, SETTINGS).add(row(10))
    other = EvaluationSettings(model='expert', episodes=4, seed=10, latency=0.0)
    with pytest.raises(InputError, match='other settings or weights'):
        ProgressFile(path, other)


def test_a_damaged_progress_file_is_named(tmp_path):
    path = tmp_path / 'report.json'
    progress = ProgressFile(path, SETTINGS)
    progress.path.write_text('nonsense\n')
    with pytest.raises(InputError, match='damaged'):
        ProgressFile(path, SETTINGS)
