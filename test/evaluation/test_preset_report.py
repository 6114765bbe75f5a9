"""Presets on the same seeds: what the report compares, and what it refuses to compare."""

from __future__ import annotations

import json

import pytest
from preset_rows import benchmark, channel_rows, plan, replayed, rows

from efficientvla_ros.evaluation import results_channels, results_page
from efficientvla_ros.evaluation.channel_tables import channel_table
from efficientvla_ros.evaluation.preset_report import build_preset_report, read_preset_report
from efficientvla_ros.evaluation.preset_tables import joint_table, plan_notes, preset_table
from efficientvla_ros.evaluation.presets import adapts_channels, parse_presets
from efficientvla_ros.evaluation.progress_file import ProgressFile
from efficientvla_ros.evaluation.report import write_json
from efficientvla_ros.evaluation.settings import EvaluationSettings
from efficientvla_ros.types import InputError

SETTINGS = EvaluationSettings(episodes=10, seed=10)
NOTE = 'layers: no calibration profile'


@pytest.fixture
def report() -> dict:
    pruned = plan(14, 8, 2, (NOTE,))
    return build_preset_report(
        SETTINGS,
        {
            'dense': rows('sssssssstt'),
            'efficientvla': rows('tssssssstt', pruned, ms=10.0)[::-1],
            'cache': rows('ssssssssst', plan(steps=2), ms=16.0),
        },
    )


def test_each_preset_is_compared_with_dense_seed_by_seed(report):
    section = report['presets']['efficientvla']
    found = section['against_dense']
    assert (found['pairs'], found['only_here'], found['only_dense']) == (10, 0, 1)
    assert found['difference'] == pytest.approx(-0.1)
    assert found['difference_95'][0] < -0.1 < found['difference_95'][1]
    assert found['p_value'] == 1.0
    assert report['presets']['cache']['against_dense']['only_here'] == 1
    assert 'against_dense' not in report['presets']['dense']


def test_time_is_given_as_medians_means_and_speed_up(report):
    section = report['presets']['efficientvla']
    assert section['summary']['latency_s']['total']['p50'] == pytest.approx(0.02)
    assert section['stage_mean_s']['vision'] == pytest.approx(0.0025)
    assert section['speed_up']['total'] == pytest.approx(2.0)


def test_the_report_holds_the_plan_of_each_preset_and_its_episodes(report, tmp_path):
    path = tmp_path / 'report.json'
    write_json(path, report)
    back = read_preset_report(path)
    assert back['presets']['efficientvla']['plan'] == plan(14, 8, 2, (NOTE,))
    episodes = back['presets']['efficientvla']['episodes']
    assert [row['seed'] for row in episodes] == list(range(10, 20))
    assert 'stage_seconds' not in episodes[0] and 'plan' not in episodes[0]
    assert back['settings']['episodes'] == 10 and back['hardware']['cpu']


@pytest.mark.parametrize(
    ('parts', 'message'),
    [
        ({'cache': rows('ss')}, "no episodes of preset 'dense'"),
        ({'dense': rows('ss'), 'cache': rows('ss', first=11)}, "'cache' ran other seeds"),
        (
            {'dense': rows('ss'), 'cache': rows('s') + rows('s', plan(steps=2), first=11)},
            "'cache' ran by different plans",
        ),
    ],
)
def test_what_cannot_be_compared_is_refused(parts, message):
    with pytest.raises(InputError, match=message):
        build_preset_report(SETTINGS, parts)


def test_another_report_is_not_taken_for_one_on_presets(tmp_path):
    path = tmp_path / 'report.json'
    path.write_text('{"schema": "efficientvla_ros/evaluation/1"}')
    with pytest.raises(InputError, match='not a report on presets'):
        read_preset_report(path)


def test_the_table_has_one_line_for_each_preset(report):
    lines = preset_table(report).splitlines()
    assert len(lines) == 4 + 3
    assert lines[4].startswith('| dense | 12 | 64 | 10 | 8/10 |') and lines[4].endswith('| 1 |')
    assert '| 7/10 |' in lines[5] and '-10.0 (' in lines[5] and lines[5].endswith('| 2.00 |')
    columns = {line.count('|') for line in lines[2:]}
    assert len(columns) == 1
    assert plan_notes(report) == [f'efficientvla: {NOTE}']


def test_time_of_one_model_and_success_of_another_stand_in_one_table(report):
    timed = benchmark(efficientvla=2.5, tokens=2.0)
    lines = joint_table(report, timed).splitlines()
    assert len(lines) == 2 + 2  # presets that both have
    assert lines[3].startswith('| `efficientvla` | 40.0 | 40.0 | 40.0 | 40.0 | 2.50 | 7/10 |')
    assert len({line.count('|') for line in lines}) == 1


def test_results_of_presets_join_the_page_once_they_are_there(report, tmp_path):
    pages = results_page.render(results_page_folder(tmp_path))
    write_json(tmp_path / results_page.PRESETS, report)
    write_json(tmp_path / results_page.PRESETS_TIME, benchmark(efficientvla=2.5, cache=1.5))
    with_presets = results_page.render(tmp_path)
    assert with_presets.startswith(pages.rstrip())
    added = with_presets[len(pages.rstrip()) :]
    assert '8 of 12 layers (0, 1, 2, 3, 4, 5, 6, 7)' in added
    assert '| `cache` |' in added and NOTE in added and results_page.PRESETS_PICTURE in added
    results_page.draw(tmp_path, tmp_path)
    assert (tmp_path / results_page.PRESETS_PICTURE).read_bytes().startswith(b'\x89PNG')


def test_results_of_channels_join_the_page_and_say_how_the_deviation_came_out(tmp_path):
    names = ('ecovla_25', 'eap_gap_25', 'frozen_25', 'wanda_25', 'random_channels_25')
    parts = {'dense': rows('ss'), **{name: channel_rows('ss') for name in names}}
    deviations = dict(zip(names, map(replayed, (0.2, 0.2, 0.4, 0.1, 0.9))))
    found = build_preset_report(EvaluationSettings(episodes=2, seed=10), parts, [deviations])
    timed = benchmark(**dict.fromkeys(names, 1.5))
    for name, section in timed['presets'].items():
        section['mean_s'] = 0.1
        if name != 'dense':
            section['mean_speed_up'] = 1.25
            section['channels'] = found['presets'][name]['channels']
    pages = results_page.render(results_page_folder(tmp_path))
    write_json(tmp_path / results_channels.EVALUATION, found)
    write_json(tmp_path / results_channels.TIME, timed)
    added = results_page.render(tmp_path)[len(pages.rstrip()) :]
    assert '| `ecovla_25` | 100.0 | 1.25 | 20.0 | 60.0 / 60.0 | 50.0% | 4.0% | 10.00 % |' in added
    assert (
        'At 25 % the deviation of `ecovla_25`: of all ticks it is smaller than that of frozen '
        'and random_channels, not smaller than wanda'
    ) in added
    assert (
        'The visible cost of choosing at 25 %: p99 of all ticks is 60.0 ms with choices in the '
        'gaps (`eap_gap_25`), 60.0 ms without any (`frozen_25`), 1.00 times as much.'
    ) in added
    assert 'At 40 %' not in added and results_channels.EPISODE in added
    results_page.draw(tmp_path, tmp_path)
    assert (tmp_path / results_channels.PICTURE).read_bytes().startswith(b'\x89PNG')


def results_page_folder(folder):
    from pathlib import Path

    committed = Path(__file__).resolve().parents[2] / 'docs' / 'reports'
    names = (*results_page.EVALUATIONS, results_page.BENCHMARK, results_page.DEMO)
    for name in (*names, results_page.SOAK, *results_page.SUITES):
        (folder / name).write_text((committed / name).read_text())
    return folder


def test_dense_is_always_among_the_presets():
    assert parse_presets('cache, efficientvla,cache') == ('dense', 'cache', 'efficientvla')
    with pytest.raises(InputError, match="preset 'magic' is unknown, expected one of dense"):
        parse_presets('dense,magic')
    with pytest.raises(InputError, match="got ' ,', expected one or more of dense"):
        parse_presets(' ,')


def test_each_preset_has_a_progress_file_of_its_own(tmp_path):
    path = tmp_path / 'report.json'
    first = ProgressFile(path, SETTINGS, 'cache')
    first.add(rows('s')[0])
    assert sorted(ProgressFile(path, SETTINGS, 'cache').rows) == [10]
    assert ProgressFile(path, SETTINGS, 'tokens').rows == {}
    assert json.loads(first.path.read_text().splitlines()[0])['preset'] == 'cache'


def test_episodes_with_another_profile_are_not_mixed_in(tmp_path):
    profile, path = tmp_path / 'p.safetensors', tmp_path / 'report.json'
    settings = EvaluationSettings(profile=str(profile))
    profile.write_bytes(b'one')
    ProgressFile(path, settings, 'cache').add(rows('s')[0])
    profile.write_bytes(b'two')
    with pytest.raises(InputError, match='other settings or weights'):
        ProgressFile(path, settings, 'cache')


def test_presets_that_leave_channels_out_have_a_table_of_their_own(report):
    assert channel_table(report) == '' and 'channels' not in report['presets']['cache']
    parts = {'dense': rows('ss'), 'cache': rows('st'), 'ecovla_25': channel_rows('ss')}
    found = build_preset_report(
        SETTINGS,
        parts,
        [{'cache': replayed(0.5), 'ecovla_25': replayed(0.1)},
         {'cache': replayed(0.5), 'ecovla_25': replayed(0.3)}],
    )  # fmt: skip
    section = found['presets']['ecovla_25']
    assert section['channels']['update_rate'] == 0.5
    assert section['channels']['seconds']['update']['p50'] == pytest.approx(0.02)
    assert section['channels']['seconds']['sparse']['p50'] == pytest.approx(0.06)
    assert section['deviation']['sparse_relative'] == pytest.approx(0.2)
    assert found['presets']['cache']['deviation']['relative'] == pytest.approx(0.25)
    assert 'deviation' not in found['presets']['dense']
    assert 'channels' not in section['episodes'][0]
    section['channels']['notes'] = ['audit: ticks run dense from now on']
    assert plan_notes(found) == ['ecovla_25: audit: ticks run dense from now on']
    lines = channel_table(found).splitlines()
    assert len(lines) == 3 and len({line.count('|') for line in lines}) == 1
    assert lines[2].startswith(
        '| ecovla_25 | 12.5% | 50.0% | 4.0% | 0 | 40.0 / 60.0 / 60.0 | 1.00 |'
    )
    assert lines[2].endswith('| 10.00 % | 20.00 % |')


def test_presets_that_choose_channels_again_are_known():
    adaptive = ('ecovla_25', 'ecovla_40', 'combined', 'every_frame_25')
    assert all(map(adapts_channels, adaptive))
    fixed = ('dense', 'efficientvla', 'wanda_25', 'random_channels_40', 'frozen_25')
    assert not any(map(adapts_channels, fixed))
