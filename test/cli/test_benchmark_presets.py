"""`efficientvla benchmark --presets`: one run, one table, one report."""

import json
import subprocess
import sys


def efficientvla(*arguments: object) -> subprocess.CompletedProcess:
    command = [sys.executable, '-m', 'efficientvla_ros.cli.main', *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=110)


def test_random_weights_are_measured_under_every_preset(tmp_path):
    path = tmp_path / 'latency.json'
    options = ('--random-weights', '--runs', 2, '--warm-up-runs', 0, '--json', path)
    result = efficientvla('benchmark', *options, '--presets', 'efficientvla,cache')
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
