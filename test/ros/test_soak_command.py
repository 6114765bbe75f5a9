"""A short soak: the real node and the mock robot as processes, and a report from its statuses."""

from __future__ import annotations

import json

import pytest

pytest.importorskip('rclpy')
pytest.importorskip('efficientvla_ros.msg')

from efficientvla_ros.cli import soak
from efficientvla_ros.evaluation.soak_report import SCHEMA


def test_the_node_runs_with_a_mock_robot_and_is_reported_on(tmp_path, monkeypatch, capsys):
    # The command sets the domain of its processes for its own node as well.
    for name in ('ROS_DOMAIN_ID', 'ROS_LOG_DIR', 'ROS_AUTOMATIC_DISCOVERY_RANGE'):
        monkeypatch.setenv(name, '')
    path = tmp_path / 'soak.json'
    soak.command(minutes=0.1, preset='dense', rate=2.0, width=320, height=240, json_file=path)
    found = json.loads(path.read_text())
    assert found['schema'] == SCHEMA and found['settings']['camera']['width'] == 320
    assert found['ticks']['finished'] > 2 and found['commands'] > 2
    assert found['images'] > 60
    start, command = found['camera_to_start'], found['camera_to_command']
    assert 0.0 < start['p50'] <= start['p99'] and start['p50'] < command['p50']
    assert found['cores']['policy node'] > 0.0 < found['cores']['mock robot']
    assert 'camera to start' in capsys.readouterr().out
