"""`efficientvla evaluate` as a user runs it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time

import pytest

COMMON = ['--model', 'expert', '--camera-size', '32']


def start(*arguments: str, **options) -> subprocess.Popen:
    # A shell that runs the tests in the background has SIGINT ignored, and children inherit that.
    options.setdefault('preexec_fn', lambda: signal.signal(signal.SIGINT, signal.SIG_DFL))
    return subprocess.Popen(
        [sys.executable, '-m', 'efficientvla_ros.cli.main', 'evaluate', *COMMON, *arguments],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **options,
    )  # fmt: skip


def evaluate(*arguments: str) -> tuple[int, str, str]:
    process = start(*arguments)
    out, err = process.communicate(timeout=100)
    return process.returncode, out, err


def test_a_report_is_written_and_shown(tmp_path):
    path = tmp_path / 'report.json'
    code, out, err = evaluate('--episodes', '4', '--workers', '2', '--json', str(path))
    assert code == 0, err
    report = json.loads(path.read_text())
    assert [row['seed'] for row in report['episodes']] == list(range(1_000_000, 1_000_004))
    assert report['summary']['successes'] >= 3
    assert f'| {report["summary"]["successes"]}/4 |' in out
    assert str(path) in out
    code, out, err = evaluate('--episodes', '4', '--workers', '1', '--compare', str(path))
    assert code == 0, err
    assert 'on 4 common seeds' in out and 'p = 1' in out


def test_all_tasks_have_a_line_and_a_report_each(tmp_path):
    path = str(tmp_path / 'r.json')
    settings = ('--task', 'all', '--setting', 'variants')
    code, out, err = evaluate(*settings, '--episodes', '1', '--json', path)
    assert code == 0, err
    for task in (
        'pick',
        'move_near',
        'open_drawer',
        'close_drawer',
        'place_drawer',
        'place_plate',
    ):
        report = json.loads((tmp_path / f'r_{task}.json').read_text())
        assert report['settings']['task'] == task and report['settings']['setting'] == 'variants'
        assert f'| {task}, variants,' in out
    assert 'average over 6 tasks' in out
    code, _, err = evaluate('--setting', 'all')
    assert code == 2 and 'need --presets' in err
    code, _, err = evaluate('--task', 'all', '--presets', 'cache', '--channel-plot', 'a.png')
    assert code == 2 and 'neither swapped instructions nor --channel-plot' in err


def test_presets_run_in_every_setting_and_are_found_again(tmp_path):
    path, again = tmp_path / 'suite.json', tmp_path / 'again.json'
    arguments = (
        '--model',
        'tabletop-pick',
        '--setting',
        'all',
        '--presets',
        'cache',
        '--episodes',
        '1',
    )
    code, out, err = evaluate(
        *arguments, '--json', str(path), '--plot', str(tmp_path / 'suite.png')
    )
    assert code == 0, err
    report = json.loads(path.read_text())
    pictures = sorted(picture.name for picture in tmp_path.glob('*.png'))
    assert pictures == ['suite_dynamic.png', 'suite_matching.png', 'suite_variants.png']
    assert list(report['cells']) == ['matching', 'variants', 'dynamic']
    assert report['overall']['variants']['cache']['against_dense']['pairs'] == 1
    assert out.count('| `cache` |') == 3 and 'tabletop-pick, all tasks, dynamic,' in out
    assert not list(tmp_path.glob('*.rows.jsonl'))
    code, out, err = evaluate(*arguments, '--json', str(again), '--compare', str(path))
    assert code == 0, err
    assert '6 of 6 episodes ended as in' in out


@pytest.mark.skipif(os.name != 'posix', reason='sends SIGINT to a process group')
def test_an_interrupted_run_goes_on_where_it_stopped(tmp_path):
    path = tmp_path / 'report.json'
    progress = tmp_path / 'report.json.rows.jsonl'
    arguments = ('--episodes', '300', '--workers', '1', '--json', str(path))
    process = start(*arguments, start_new_session=True)
    deadline = time.monotonic() + 60
    while not (progress.exists() and len(progress.read_text().splitlines()) > 3):
        assert process.poll() is None and time.monotonic() < deadline, process.communicate()
        time.sleep(0.05)
    os.killpg(process.pid, signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert 'the same command goes on from here' in err
    assert 'Traceback' not in err
    done = len(progress.read_text().splitlines()) - 1
    assert not path.exists()
    code, _, err = evaluate('--episodes', str(done), '--json', str(path))
    assert code == 0, err
    assert len(json.loads(path.read_text())['episodes']) == done
    assert not progress.exists()


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        (['--episodes', '0'], 'episodes is 0, expected at least 1'),
        (['--task', 'juggle'], 'unknown task "juggle"'),
        (['--compare', '/nowhere.json'], '/nowhere.json: cannot be read'),
    ],
)
def test_unusable_input_ends_in_one_line(arguments, message):
    code, _, err = evaluate(*arguments)
    assert code == 2
    assert f'error: {message}' in err
    assert 'Traceback' not in err
