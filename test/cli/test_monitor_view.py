"""The monitor's picture fits the terminal and says what is wrong."""

from __future__ import annotations

import io
import math

import pytest

pytest.importorskip('efficientvla_ros.msg')

from rich.console import Console

from efficientvla_ros.cli.monitor_charts import ASCII, UNICODE, percentile_bar, sparkline
from efficientvla_ros.cli.monitor_view import render, render_all, summary
from efficientvla_ros.msg import PolicyStatus
from efficientvla_ros.ros.reporting.status_listener import WatchedNode, status_dict

SILENT = 3.0


def status(**values: object) -> PolicyStatus:
    message = PolicyStatus(
        state=PolicyStatus.RUNNING, instruction='pick [red] can', speed_scale=0.5, ticks=40,
        rate=1.66, tick_period=0.6, preset='ecovla_25', chunk_actions=8, chunk_waypoints=7,
        chunk_depth_p50=0.9, chunk_depth_p05=0.71, latency_p50=0.120, latency_p95=0.150,
        latency_p99=0.210, channel_ratio=0.25, similarity=math.nan, channel_updates=3,
        interface='joint_trajectory',
    )  # fmt: skip
    message.stage_names, message.stage_p50 = ['vision', 'language'], [0.02, 0.06]
    message.stage_p95, message.stage_p99 = [0.03, 0.07], [0.05, 0.09]
    message.camera_names, message.camera_rate = ['camera', 'wrist'], [29.9, 0.0]
    message.camera_age, message.camera_jitter = [0.021, -1.0], [0.002, 0.0]
    message.intervention_names, message.intervention_counts = ['workspace_clamped'], [12]
    message.audit_deviation = [0.001, 0.002, 0.0, 0.01, 0.0, 0.0, 0.25]
    for name, value in values.items():
        setattr(message, name, value)
    return message


def watched(*messages: PolicyStatus, silence: float = 0.0, **values: object) -> WatchedNode:
    import time

    node = WatchedNode('/arm/policy_node', time.monotonic() - silence, **values)
    node.history.extend(messages)
    node.status = messages[-1] if messages else None
    return node


def shown(node: WatchedNode, width: int = 80, encoding: str = 'utf-8') -> str:
    console = Console(width=width, record=True, file=io.StringIO())
    console.print(render(node, width, encoding, SILENT))
    return console.export_text()


@pytest.mark.parametrize('width', [60, 80, 100, 120, 200])
def test_every_line_fits_and_the_frame_is_closed(width):
    lines = shown(watched(status(), status(latency_p50=0.2)), width).splitlines()
    assert all(len(line) == min(width, 160) for line in lines)
    assert lines[0].startswith('╭─ /arm/policy_node')
    assert all(line.startswith('│') and line.endswith('│') for line in lines[1:-1])


@pytest.mark.parametrize('width', [80, 120])
def test_state_latency_stages_guards_and_cameras_are_there(width):
    text = ' '.join(shown(watched(status()), width).replace('│', ' ').split())
    for part in (
        'RUNNING', 'pick [red] can', 'speed 50 %', 'joint_trajectory', '120.0 150.0 210.0',
        'vision 20.0 30.0 50.0', '40 at 1.66 Hz', 'none missed', '8 actions', 'ecovla_25',
        '25 % left out', 'similarity -', 'off by 2.00 mm', 'camera: 29.9 Hz, 21 ms old',
        'wrist: no image yet', 'workspace_clamped 12',
    ):  # fmt: skip
        assert part in text, part


def test_a_hold_tells_its_reason_and_numbers():
    held = status(
        state=PolicyStatus.HOLDING, hold_reason='image_too_old', hold_detail='0.61 s old',
        dry_run=True, ticks_held=4, ticks_late=2,
    )  # fmt: skip
    text = shown(watched(held), 120)
    assert 'HOLDING  image_too_old: 0.61 s old' in text
    assert 'DRY RUN, nothing is sent' in text
    assert '2 late, 4 held' in ' '.join(shown(watched(held), 200).split())
    assert 'holding (image_too_old), dry run' in summary(watched(held), SILENT)


def test_a_node_that_went_silent_is_not_shown_as_running():
    node = watched(status(), silence=9.0, present=False)
    text = shown(node)
    assert 'SILENT: no status for 9 s: the node is gone' in text
    assert summary(node, SILENT) == '/arm/policy_node: no status for 9 s: the node is gone'


def test_newest_errors_and_notes_are_listed_once_each():
    told = [
        status(last_error='bad_image: image is 0x0'),
        status(last_error='bad_image: image is 0x0', acceleration_note='audit: ticks run dense'),
    ]
    text = shown(watched(*told, *told))
    assert text.count('error: bad_image') == 1
    assert text.count('note: audit: ticks run dense') == 2  # it came, went and came again


def test_escape_sequences_of_others_do_not_reach_the_terminal():
    assert '\x1b' not in shown(watched(status(instruction='a\x1b[2Jb', last_error='\x1b[31m')))


def test_an_ascii_terminal_gets_ascii_charts():
    text = shown(watched(status(), status(latency_p50=0.3)), encoding='ascii')
    assert 'camera -> command' in text
    assert not set(text) & set(UNICODE.parts + UNICODE.levels)


def test_several_nodes_get_a_line_each():
    console = Console(width=80, record=True, file=io.StringIO())
    console.print(render_all([watched(status()), watched()], 80, 'utf-8', SILENT))
    text = console.export_text()
    assert '2 policy nodes' in text
    assert '--node NAME' in text


def test_bars_end_at_p99_and_show_what_is_not_zero():
    assert percentile_bar((0.5, 0.75, 1.0), 1.0, 8, ASCII).plain == '####==--'
    assert percentile_bar((0.0001, 0.0001, 0.0001), 1.0, 8, ASCII).plain == '#'
    assert percentile_bar((0.0, 0.0, 0.0), 0.0, 8, ASCII).plain == ''


def test_sparklines_keep_the_newest_values_and_leave_gaps():
    assert sparkline([9.0, 0.0, math.nan, 1.0], 3, ASCII) == '. @'
    assert sparkline([1.0, 1.0], 5, ASCII) == '..'
    assert sparkline([1.0], 5, ASCII) == ''


def test_json_has_every_field_and_no_nan():
    values = status_dict(status())
    assert set(PolicyStatus.get_fields_and_field_types()) - {'header'} < set(values)
    assert values['state'] == 'running'
    assert values['similarity'] is None
    assert values['camera_rate'] == [29.9, 0.0]
