"""docs/benchmark.md says what the reports say."""

from __future__ import annotations

from preset_rows import rows

from efficientvla_ros.evaluation.benchmark_page import render
from efficientvla_ros.evaluation.report import build_report, write_json
from efficientvla_ros.evaluation.settings import EvaluationSettings
from efficientvla_ros.evaluation.suite import build_suite_report


def test_suites_and_experts_are_on_the_page(tmp_path):
    assert render(tmp_path).strip() == ''
    settings = EvaluationSettings(episodes=3, seed=10)
    suite = build_suite_report({settings: {'dense': rows('sst'), 'cache': rows('sss')}})
    write_json(tmp_path / 'suite_matching.json', suite)
    write_json(tmp_path / 'expert_dynamic_pick.json', build_report(settings, rows('sss')))
    page = render(tmp_path)
    assert '| `dense` | 2/3 |' in page and '| `cache` | 3/3 |' in page
    assert '| setting | `pick` |' in page and '| dynamic | 3/3 |' in page
