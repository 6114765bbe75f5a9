"""`efficientvla benchmark --presets`: one run, one table, one report."""

import json
import subprocess
import sys

import pytest


def efficientvla(*arguments: object) -> subprocess.CompletedProcess:
    command = [sys.executable, '-m', 'efficientvla_ros.cli.main', *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=110)


def test_random_weights_are_measured_under_every_preset(tmp_path):
    path = tmp_path / 'latency.json'
    options = ('--random-weights', '--runs', 2, '--warm-up-runs', 0, '--json', path)
    model = ('--model', 'tabletop-pick')
    result = efficientvla('benchmark', *model, *options, '--presets', 'efficientvla,cache')
    assert result.returncode == 0, result.stderr
    report = json.loads(path.read_text())
    assert report['schema'] == 'efficientvla_ros/benchmark_presets/1'
    assert report['settings']['presets'] == ['dense', 'efficientvla', 'cache']
    assert report['settings']['profile'] == 'random images'
    plan = report['presets']['efficientvla']['plan']
    assert (plan['layers_run'], plan['visual_tokens'], plan['notes']) == (8, 14, [])
    assert report['presets']['cache']['speed_up']['total'] > 0.0
    assert report['hardware']['cpu'] and report['memory']['weights_bytes'] > 1e6
    assert result.stdout.count('| dense |') == 1 and '| efficientvla | 8 | 14 | 2 |' in (
        result.stdout
    )


def test_an_unknown_preset_is_one_line():
    result = efficientvla('benchmark', '--presets', 'magic')
    assert result.returncode == 2
    assert "preset 'magic' is unknown" in result.stderr and 'Traceback' not in result.stderr


def test_channels_that_adapt_are_measured_on_images_of_episodes(tmp_path):
    path, trace = tmp_path / 'latency.json', tmp_path / 'timeline.json'
    options = ('--random-weights', '--runs', 6, '--warm-up-runs', 1, '--ddim-steps', 2)
    size = ('--image-height', 64, '--image-width', 64)
    result = efficientvla(
        'benchmark', *options, *size, '--presets', 'ecovla_40', '--no-gap',
        '--json', path, '--timeline', trace,
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    report = json.loads(path.read_text())
    assert report['settings']['images'] == 'simulated' and report['settings']['gap'] is False
    channels = report['presets']['ecovla_40']['channels']
    assert channels['ticks']['update'] >= 1 and sum(channels['ticks'].values()) == 6
    assert '| ecovla_40 |' in result.stdout
    names = {event['name'] for event in json.loads(trace.read_text())['traceEvents']}
    assert {'language', 'update', 'score', 'rewrite'} <= names


@pytest.mark.parametrize(
    ('options', 'message'),
    [
        (('--images', 'random'), '--images needs --presets'),
        (('--presets', 'cache', '--images', 'real'), "images 'real' are unknown"),
        (('--timeline', 'a.json'), '--timeline needs --presets'),
    ],
)
def test_unusable_options_are_one_line(options, message):
    result = efficientvla('benchmark', *options)
    assert result.returncode == 2
    assert f'error: {message}' in result.stderr and 'Traceback' not in result.stderr
