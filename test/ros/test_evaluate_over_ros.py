"""`efficientvla evaluate --ros`: episodes over DDS, compared with those in process."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

pytest.importorskip('rclpy')
pytest.importorskip('efficientvla_ros.msg')

from efficientvla_ros.evaluation.ros_report import SCHEMA

SEED = 1_000_000


def evaluate(*arguments: object) -> subprocess.CompletedProcess:
    command = [sys.executable, '-m', 'efficientvla_ros.cli.main', 'evaluate', *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=200)


def test_the_nodes_do_what_the_episodes_in_process_do(tmp_path):
    suite, report = tmp_path / 'suite.json', tmp_path / 'ros.json'
    common = ('--model', 'tabletop-pick', '--episodes', 1, '--seed', SEED)
    made = evaluate(*common, '--setting', 'all', '--presets', 'dense', '--json', suite)
    assert made.returncode == 0, made.stderr
    result = evaluate(*common, '--ros', '--presets', 'cache', '--compare', suite, '--json', report)
    assert result.returncode == 2 and 'has no cache of pick in matching' in result.stderr
    result = evaluate(*common, '--ros', '--compare', suite, '--json', report)
    assert result.returncode == 0, result.stderr
    found = json.loads(report.read_text())
    assert found['schema'] == SCHEMA
    assert found['cells']['matching']['pick']['as loaded']['outcomes'] == ['success']
    assert found['parity']['dense']['pairs'] == 1
    assert found['latency_ms']['matching/pick']['camera_to_command_p50'] > 0.0
    assert 'dense, over ROS against in process on 1 common episodes: +0.0 points' in result.stdout


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        (('--latency', 0.2), '--latency has no meaning with --ros'),
        (('--model', 'expert'), 'the scripted expert is none'),
        (('--presets', 'cache,layers'), '--ros takes one preset beside dense'),
        (('--plot', 'a.png'), '--ros goes with neither pictures'),
    ],
)
def test_what_the_nodes_decide_is_refused(arguments, message):
    result = evaluate('--ros', '--episodes', 1, *arguments)
    assert result.returncode == 2 and message in result.stderr
    assert 'Traceback' not in result.stderr
