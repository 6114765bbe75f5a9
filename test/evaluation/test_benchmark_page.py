"""docs/benchmark.md says what the reports say."""

from __future__ import annotations

from preset_rows import rows

from efficientvla_ros.evaluation.benchmark_page import render
from efficientvla_ros.evaluation.report import build_report, write_json
from efficientvla_ros.evaluation.ros_report import SCHEMA as OVER_ROS
from efficientvla_ros.evaluation.settings import EvaluationSettings
from efficientvla_ros.evaluation.suite import build_suite_report


def test_suites_and_experts_are_on_the_page(tmp_path):
    assert render(tmp_path).strip() == ''
    settings = EvaluationSettings(episodes=3, seed=10)
    suite = build_suite_report({settings: {'dense': rows('sst'), 'cache': rows('sss')}})
    write_json(tmp_path / 'suite_matching.json', suite)
    write_json(tmp_path / 'expert_dynamic_pick.json', build_report(settings, rows('sss')))
    others = build_suite_report({settings: {'dense': rows('sst'), 'fastv': rows('stt')}})
    write_json(tmp_path / 'suite_baselines.json', others)
    page = render(tmp_path)
    assert '| `fastv` | 1/3 |' in page
    assert '| `dense` | 2/3 |' in page and '| `cache` | 3/3 |' in page
    assert '| setting | `pick` |' in page and '| dynamic | 3/3 |' in page


def test_episodes_over_ros_and_how_far_they_agree_are_on_the_page(tmp_path):
    section = {'successes': 4, 'episodes': 5, 'wilson_95': [0.376, 0.964]}
    parity = {
        'pairs': 5, 'difference': -0.2, 'difference_95': [-0.6, 0.3],
        'only_here': 0, 'only_dense': 1, 'p_value': 1.0,
    }  # fmt: skip
    report = {
        'schema': OVER_ROS,
        'cells': {'matching': {'pick': {'dense': section}}},
        'parity': {'dense': parity},
    }
    write_json(tmp_path / 'suite_ros.json', report)
    page = render(tmp_path)
    assert '| matching | `pick` | dense | 4/5 | 37.6% to 96.4% |' in page
    assert '`dense`, over ROS against in process on 5 common episodes: -20.0 points' in page
