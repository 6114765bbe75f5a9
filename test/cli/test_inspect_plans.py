"""`efficientvla inspect` with a plan: what is left out, and how the papers count it."""

from __future__ import annotations

import json
from io import StringIO
from pathlib import Path

import pytest
from rich.console import Console

from efficientvla_ros.acceleration.presets import PRESETS
from efficientvla_ros.cli.inspect_tables import print_cost


@pytest.fixture
def plan(inspect):
    def run(*arguments: object) -> dict:
        result = inspect(*arguments, '--json', '-')
        assert result.returncode == 0, result.stderr
        return json.loads(result.stdout)

    return run


def conventions(report: dict) -> dict[str, dict]:
    return {row['name']: row for row in report['plan']['conventions']}


def test_preset_of_the_paper_in_all_conventions(plan):
    report = plan('--model', 'cogact-base', '--preset', 'efficientvla')
    assert report['plan']['kept'] == {
        'layers': [22, 32], 'visual_tokens': [56, 256], 'mlp_channels': [8256, 11008],
        'heads': [32, 32], 'sampling_steps': [2, 10],
    }  # fmt: skip
    rows = conventions(report)
    paper = rows['efficientvla']
    assert paper['plan']['parameters'] / 1e9 == pytest.approx(4.86, abs=0.005)
    assert 100 * paper['share'] == pytest.approx(28.9, rel=0.02)
    assert paper['dense']['operations'] / 1e12 == pytest.approx(4.19, abs=0.005)
    eco = rows['ecovla']
    assert eco['unit'] == 'MAC'
    assert eco['dense']['operations'] / 1e12 == pytest.approx(1.81, abs=0.005)
    ours, total = rows['ours'], report['total']
    assert ours['plan']['operations'] == total['flops'] == 2 * total['macs']
    assert ours['dense']['operations'] == 2 * total['dense_macs']
    assert ours['plan']['floor_s'] == pytest.approx(total['floor_s'])
    assert ours['plan']['parameters'] == total['parameters']


CACHED = ('cache', 'efficientvla', 'efficientvla_light', 'combined')


@pytest.mark.parametrize('model', ['tabletop-pick', 'cogact-mini', 'cogact-small', 'openvla-7b'])
@pytest.mark.parametrize('preset', [name for name in PRESETS if name != 'dense'])
def test_every_preset_takes_less_than_the_dense_plan(plan, model, preset):
    report = plan('--model', model, '--preset', preset)
    off = model == 'openvla-7b' and preset == 'cache'
    for row in report['plan']['conventions']:
        same = off or (row['name'] == 'ecovla' and preset == 'cache')
        assert row['share'] == 1 if same else row['share'] < 1, row['name']
    assert report['total']['dense_macs'] == plan('--model', model)['total']['macs']
    adapts = preset.startswith(('ecovla', 'eap_gap', 'every_frame')) or preset == 'combined'
    uncached = model == 'openvla-7b' and preset in CACHED
    assert len(report['plan']['notes']) == adapts + uncached


def test_dense_preset_is_no_plan_at_all(plan):
    report = plan('--preset', 'dense')
    assert all(row['share'] == 1 for row in report['plan']['conventions'])
    assert {**report, 'plan': None} == {**plan(), 'plan': None}


def test_counts_replace_those_of_the_preset(plan):
    model = ('--model', 'tabletop-pick', '--preset', 'efficientvla')
    report = plan(*model, '--layers', 11, '--tokens', 28, '--mlp-ratio', 0.5)
    assert report['plan']['kept'] == {
        'layers': [11, 12], 'visual_tokens': [28, 64], 'mlp_channels': [176, 352],
        'heads': [4, 4], 'sampling_steps': [2, 10],
    }  # fmt: skip
    alone = plan('--model', 'tabletop-pick', '--cache-interval', 2)
    assert alone['plan']['preset'] is None
    assert alone['plan']['kept']['sampling_steps'] == [5, 10]
    assert alone['plan']['kept']['layers'] == [12, 12]


def test_channels_that_adapt_are_counted_in_mlp_and_heads(plan):
    report = plan('--model', 'cogact-base', '--preset', 'ecovla_40')['plan']
    assert report['kept']['mlp_channels'] == [6592, 11008]
    assert report['kept']['heads'] == [20, 32]
    assert report['notes'][0].startswith('ticks that choose channels run whole decoder layers')
    row = next(row for row in report['conventions'] if row['name'] == 'ecovla')
    assert row['dense']['operations'] / 1e12 == pytest.approx(1.81, abs=0.005)
    assert row['share'] == pytest.approx(0.608, abs=5e-4)
    gap = plan('--model', 'cogact-base', '--preset', 'eap_gap_40')['plan']
    assert gap['conventions'] == report['conventions']
    assert 'between ticks' in gap['notes'][0]
    own = plan('--model', 'cogact-base', '--channels-ratio', 0.4)['plan']
    assert own['conventions'] == report['conventions']


def test_tables_say_what_is_left_out(inspect):
    shown = inspect('--model', 'openvla-7b', '--preset', 'efficientvla').stdout.splitlines()
    assert shown[1] == (
        'efficientvla: 22 of 32 decoder layers, 56 of 256 visual tokens after layer 2, '
        '8256 of 11008 MLP channels'
    )
    assert shown[2] == 'feature cache stays off: model openvla-7b has no diffusion head'
    assert shown[3].split()[-2:] == ['dense,', 'GMAC']
    assert [line.split()[0] for line in shown[-6::2]] == ['what', 'EfficientVLA:', 'EcoVLA:']
    assert [line.split()[0] for line in shown[-5::2]] == ['plan'] * 3


def test_table_of_conventions_fits_a_narrow_terminal(plan):
    report = plan('--model', 'openvla-7b', '--preset', 'efficientvla')
    screen = Console(width=80, file=StringIO(), force_terminal=True, color_system=None)
    print_cost(screen, report)
    table = screen.file.getvalue().splitlines()[-7:]
    assert 'of dense' in table[0] and 'floor, ms' in table[0] and 'read' not in table[0]
    assert '4213.1 GFLOP' in table[3] and '30.1 %' in table[4]
    assert all(len(line) <= 80 for line in table)


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        (('--preset', 'fast'), "preset 'fast' is unknown, expected one of dense, efficientvla"),
        (('--layers', 25), 'layers to keep is 25, expected 4 .. 24'),
        (('--layers', 0), 'layers is 0, expected a whole number from 1'),
        (('--tokens', 65), 'kept tokens are 65, expected at most 64'),
        (('--mlp-ratio', 1), 'mlp_ratio is 1.0, expected below 1'),
        (('--channels-ratio', 1), 'channels_ratio is 1.0, expected below 1'),
        (('--preset', 'efficientvla', '--channels-ratio', 0.25), 'expected one of them to be 0'),
        (('--cache-interval', 0), 'cache_interval is 0, expected a whole number from 1'),
        (('--image', 'x.png', '--out', 'y.png'), '--image is given without --instruction'),
        (('--image', 'x.png', '--instruction', 'pick'), '--image is given without --out'),
        (
            ('--image', 'x.png', '--instruction', 'pick', '--out', 'y', '--preset', 'cache'),
            "plan 'cache' keeps all visual tokens",
        ),
        (
            ('--image', '/none/x.png', '--instruction', 'pick', '--out', 'y.png'),
            '/none/x.png: cannot be read',
        ),
    ],
)
def test_unusable_plan_is_one_line_and_exit_code_2(inspect, arguments, message):
    inspect(*arguments).assert_refused(message)


def test_page_on_released_models_shows_what_is_printed(inspect):
    page = (Path(__file__).resolve().parents[2] / 'docs' / 'models.md').read_text()
    shown = inspect('--model', 'cogact-base', '--preset', 'efficientvla').stdout.splitlines()
    start = next(n for n, line in enumerate(shown) if line.startswith('counted as'))
    table = '\n'.join(line.rstrip() for line in shown[start:])
    assert f'```text\n{shown[1]}\n\n{table}\n```' in page
