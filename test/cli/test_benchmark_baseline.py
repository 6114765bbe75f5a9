"""`efficientvla benchmark --baseline eager`: both denominators in one report."""

import json
import subprocess
import sys


def efficientvla(*arguments: object) -> subprocess.CompletedProcess:
    command = [sys.executable, '-m', 'efficientvla_ros.cli.main', *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=110)


def test_the_report_has_load_time_memory_and_the_baseline(tmp_path):
    path = tmp_path / 'latency.json'
    options = ['--runs', 2, '--warm-up-runs', 1, '--baseline', 'eager', '--json', path]
    result = efficientvla('benchmark', *options)
    assert result.returncode == 0, result.stderr
    report = json.loads(path.read_text())
    assert report['load_s'] > 0.0
    assert report['memory']['peak_rss_bytes'] > report['memory']['weights_bytes'] > 1e6
    assert report['settings']['warm_up_runs'] == 1 and report['settings']['baseline'] == 'eager'
    assert report['versions']['transformers']
    assert list(report['baseline']['latency_s']) == list(report['latency_s'])
    assert 'baseline eager' in result.stdout and 'as fast' in result.stdout
    assert 'transformers' not in result.stderr  # nothing of the library's own log


def test_an_unknown_baseline_is_one_line(tmp_path):
    result = efficientvla('benchmark', '--baseline', 'lazy')
    assert result.returncode == 2
    assert "'lazy'" in result.stderr and 'Traceback' not in result.stderr
