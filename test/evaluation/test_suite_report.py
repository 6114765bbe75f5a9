"""The benchmark's report: all tasks and settings, compared on the same seeds."""

from __future__ import annotations

from dataclasses import replace

import pytest
from preset_rows import plan, replayed, rows

from efficientvla_ros.cli.evaluate_suite import cells_of
from efficientvla_ros.evaluation.report import write_json
from efficientvla_ros.evaluation.settings import EvaluationSettings
from efficientvla_ros.evaluation.suite import (
    build_suite_report,
    compare_suites,
    read_suite_report,
    suite_table,
    suite_tables,
)
from efficientvla_ros.simulation.tasks import SETTINGS, TASKS
from efficientvla_ros.types import InputError

BASE = EvaluationSettings(episodes=4, seed=10)
PICK, OPEN = BASE, replace(BASE, task='open_drawer')
MOVED = replace(BASE, setting='dynamic')


@pytest.fixture
def report() -> dict:
    def cell(dense: str, sparse: str) -> dict:
        # As workers finish them: in any order.
        return {'dense': rows(dense)[::-1], 'cache': rows(sparse, plan(steps=2), ms=10.0)}

    found = {PICK: cell('ssss', 'ssst'), OPEN: cell('stst', 'tsst'), MOVED: cell('tttt', 'sttt')}
    return build_suite_report(found, {PICK: [{'cache': replayed(0.2)}]})


def test_tasks_are_averaged_and_compared_with_dense_episode_by_episode(report):
    dense, cache = (report['overall']['matching'][name] for name in ('dense', 'cache'))
    assert (dense['summary']['successes'], dense['summary']['episodes']) == (6, 8)
    assert dense['success_average'] == pytest.approx(0.75)
    found = cache['against_dense']
    assert (found['pairs'], found['only_here'], found['only_dense']) == (8, 1, 2)
    assert cache['speed_up']['total'] == pytest.approx(2.0)
    assert report['overall']['dynamic']['cache']['against_dense']['only_here'] == 1
    assert report['cells']['matching']['open_drawer']['cache']['outcomes'] == [
        'timeout', 'success', 'success', 'timeout',
    ]  # fmt: skip
    assert report['cells']['matching']['pick']['cache']['deviation']['episodes'] == 1
    assert cache['deviation']['relative'] == pytest.approx(0.1)
    assert 'deviation' not in report['overall']['dynamic']['cache']


def test_the_table_has_a_column_for_each_task(report, tmp_path):
    write_json(tmp_path / 'suite.json', report)
    lines = suite_table(read_suite_report(tmp_path / 'suite.json'), 'matching').splitlines()
    assert lines[0].startswith('| preset | `pick` | `open_drawer` | average |')
    assert lines[2].startswith('| `dense` | 4/4 | 2/4 | 75.0% |')
    assert lines[3].startswith('| `cache` | 3/4 | 2/4 | 62.5% |')
    assert lines[3].endswith('| 2.00 |')
    assert 'dynamic, execute 3' in suite_tables(report)


def test_the_first_episodes_of_a_longer_report_are_found_again(report):
    shorter = replace(BASE, episodes=2, seed=12)
    again = build_suite_report({shorter: {'dense': rows('st', first=12)}})
    assert compare_suites(again, report) == (2, 1)
    elsewhere = replace(BASE, task='place_plate')
    with pytest.raises(InputError, match='no episode in common'):
        compare_suites(build_suite_report({elsewhere: {'dense': rows('ssss')}}), report)


def test_all_stands_for_every_task_and_setting():
    cells = cells_of(replace(BASE, task='all', setting='all'))
    assert len(cells) == len(set(cells)) == len(TASKS) * len(SETTINGS)
    assert [cell.task for cell in cells[: len(TASKS)]] == list(TASKS)
    assert cells_of(OPEN) == [OPEN]
