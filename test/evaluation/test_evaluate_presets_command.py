"""`efficientvla evaluate --presets` as a user runs it, on the embedded policy."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
from preset_rows import row

from efficientvla_ros.evaluation.progress_file import ProgressFile
from efficientvla_ros.evaluation.settings import EvaluationSettings

# The smallest embedded policy.
PICK = ('--model', 'tabletop-pick')


def evaluate(*arguments: object) -> subprocess.CompletedProcess:
    command = [sys.executable, '-m', 'efficientvla_ros.cli.main', 'evaluate', *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=110)


def test_presets_run_on_the_same_seeds_and_finished_episodes_are_not_run_again(tmp_path):
    path, picture = tmp_path / 'report.json', tmp_path / 'presets.png'
    # Dense is done already; no policy would time out after ten ticks.
    settings = EvaluationSettings(episodes=2, model='tabletop-pick')
    done = ProgressFile(path, settings, 'dense')
    for seed in settings.seeds:
        done.add(row(seed, 'timeout'))
    arguments = (*PICK, '--presets', 'cache', '--episodes', 2, '--workers', 1)
    result = evaluate(*arguments, '--json', path, '--plot', picture)
    assert result.returncode == 0, result.stderr
    report = json.loads(path.read_text())
    dense, cache = report['presets']['dense'], report['presets']['cache']
    assert dense['summary']['outcomes'] == {'timeout': 2}
    assert [row['seed'] for row in cache['episodes']] == list(settings.seeds)
    assert cache['against_dense']['pairs'] == 2
    assert cache['plan']['diffusion_steps'] == 2 and cache['plan']['layers_run'] == 12
    assert cache['plan']['acceleration']['cache_interval'] == 5
    assert '| cache | 12 | 64 | 2 |' in result.stdout
    assert picture.read_bytes().startswith(b'\x89PNG')
    assert not list(tmp_path.glob('*.rows.jsonl'))


def test_channels_that_adapt_are_told_compared_and_drawn(tmp_path):
    path, picture = tmp_path / 'report.json', tmp_path / 'episode.png'
    arguments = (*PICK, '--presets', 'ecovla_25,frozen_25', '--episodes', 1, '--workers', 1)
    result = evaluate(
        *arguments, '--json', path, '--deviation-episodes', 1, '--channel-plot', picture
    )
    assert result.returncode == 0, result.stderr
    presets = json.loads(path.read_text())['presets']
    adaptive, frozen = presets['ecovla_25'], presets['frozen_25']
    assert adaptive['channels']['reasons']['first frame'] == 1
    assert adaptive['channels']['missed'] == 0
    assert set(frozen['channels']['ticks']) == {'sparse'}
    assert frozen['deviation']['sparse_relative'] == frozen['deviation']['relative'] > 0.0
    assert adaptive['deviation']['ticks'] == presets['dense']['summary']['inferences']
    assert '| ecovla_25 |' in result.stdout and '| frozen_25 | 25.0% | 0.0% |' in result.stdout
    assert picture.read_bytes().startswith(b'\x89PNG')
    episode = json.loads(picture.with_suffix('.json').read_text())
    assert episode['preset'] == 'ecovla_25' and episode['updates'][0]
    assert set(episode['phases']) <= {'approach', 'descend', 'grasp', 'lift'}


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        (('--presets', 'magic'), "preset 'magic' is unknown, expected one of dense"),
        (('--presets', 'cache', '--model', 'expert'), 'the scripted expert is no network'),
        (('--presets', 'cache', '--compare', 'a.json'), '--compare is for one policy'),
        (('--plot', 'a.png'), '--plot needs --presets'),
        (('--deviation-episodes', 2), '--deviation-episodes needs --presets'),
        (('--channel-plot', 'a.png'), '--channel-plot needs --presets'),
        (
            ('--presets', 'frozen_25', '--channel-plot', 'a.png'),
            '--channel-plot needs a preset that adapts channels, such as ecovla_25',
        ),
        (
            ('--presets', 'layers', '--episodes', 1, '--profile', '/nowhere.safetensors'),
            '/nowhere.safetensors does not exist, expected a calibration profile',
        ),
    ],
)
def test_unusable_input_ends_in_one_line(arguments, message):
    result = evaluate(*arguments)
    assert result.returncode == 2
    assert f'error: {message}' in result.stderr and 'Traceback' not in result.stderr
