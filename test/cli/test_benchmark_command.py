"""Benchmark and train from the shell: a report of what was measured; bad input is one line."""

import json
import subprocess
import sys

import pytest
from checkpoint_writers import write_cogact, write_openvla
from tokenizer_writer import INSTRUCTION, write_tokenizer

STAGES = ['preprocess', 'vision', 'language', 'action_head', 'postprocess', 'total']


def efficientvla(*arguments: object) -> subprocess.CompletedProcess:
    command = [sys.executable, '-m', 'efficientvla_ros.cli.main', *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=110)


def test_the_report_has_every_stage_with_settings_and_hardware(tmp_path):
    path = tmp_path / 'latency.json'
    result = efficientvla(
        'benchmark', '--random-weights', '--runs', 3, '--ddim-steps', 5, '--json', path
    )
    assert result.returncode == 0, result.stderr
    report = json.loads(path.read_text())
    assert list(report['latency_s']) == STAGES
    for values in report['latency_s'].values():
        assert 0.0 < values['p50'] <= values['p95'] <= values['p99']
    settings = report['settings']
    assert settings['ddim_steps'] == 5 and settings['runs'] == 3
    assert settings['dtype'] == 'float32' and settings['prompt_tokens'] >= 3
    assert report['hardware']['cpu'] and report['versions']['torch']
    assert all(stage in result.stdout for stage in STAGES)


def test_the_type_of_the_weights_can_be_chosen(tmp_path):
    path = tmp_path / 'latency.json'
    result = efficientvla('benchmark', '--dtype', 'bfloat16', '--runs', 1, '--json', path)
    assert result.returncode == 0, result.stderr
    assert json.loads(path.read_text())['settings']['dtype'] == 'bfloat16'


@pytest.mark.parametrize(
    ('write', 'stored', 'ddim_steps'),
    [(write_cogact, 'float32', 10), (write_openvla, 'bfloat16', 0)],
)
def test_a_released_folder_is_measured_with_its_tokenizer_and_data_set(
    tmp_path, write, stored, ddim_steps
):
    model, text = tmp_path / 'model', tmp_path / 'text'
    write(model, tokenizer=False)
    text.mkdir()
    write_tokenizer(text)
    path = tmp_path / 'latency.json'
    result = efficientvla(
        'benchmark', '--model', model, '--tokenizer', text, '--dtype', stored,
        '--unnorm-key', 'bridge_orig', '--instruction', INSTRUCTION, '--runs', 2, '--json', path,
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    report = json.loads(path.read_text())
    assert list(report['latency_s']) == STAGES
    settings = report['settings']
    assert settings['model'] == str(model) and settings['dtype'] == stored
    assert settings['ddim_steps'] == ddim_steps and settings['unnorm_key'] == 'bridge_orig'


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        (('benchmark', '--model', 'no/model'), 'neither an embedded model'),
        (('benchmark', '--random-weights', '--instruction', 'fetch'), "'fetch'"),
        (('benchmark', '--random-weights', '--ddim-steps', 11), 'expected one of 1, 2'),
        (('benchmark', '--dtype', 'float16'), "'float16' is unknown, expected auto"),
        (('benchmark', '--model', 'cogact-base'), 'random weights'),
        (('benchmark', '--unnorm-key', 'bridge_orig'), 'bridge_orig'),
        (
            ('benchmark', '--model', 'openvla-7b', '--random-weights', '--ddim-steps', 5),
            'no diffusion head',
        ),
        (('train', '--data', 'no/data'), 'expected a recording'),
        (('train', '--data', '.', '--model', 'huge'), "model 'huge' is unknown"),
        (('train', '--data', '.', '--settings', 'no.json'), 'no.json'),
    ],
)
def test_bad_input_is_one_line_and_a_usage_exit_code(arguments, message):
    result = efficientvla(*arguments)
    assert result.returncode == 2
    assert message in result.stderr and 'Traceback' not in result.stderr
