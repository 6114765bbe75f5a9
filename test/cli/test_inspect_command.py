"""`efficientvla inspect`: arithmetic without weights, verdict on a checkpoint, exit codes."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from safetensors import safe_open

from efficientvla_ros.runtime.load_options import WEIGHTS_FOLDER

COMPONENTS = ('dino', 'siglip', 'projector', 'embedding', 'llm', 'lm_head', 'action_head')
NEEDED_MILLIONS = {
    'dino': 290.630656,
    'siglip': 397.200544,
    'projector': 71.3856,
    'lm_head': 0.0,
}


@pytest.fixture
def report(inspect):
    def run(*arguments: object) -> dict:
        result = inspect(*arguments, '--json', '-')
        assert result.returncode == 0, result.stderr
        return json.loads(result.stdout)

    return run


@pytest.mark.parametrize(
    ('model', 'billions'),
    [('cogact-small', 7.55), ('cogact-base', 7.63), ('cogact-large', 7.85), ('openvla-7b', 7.54)],
)
def test_parameters_of_the_released_files(report, model, billions):
    total = report('--model', model)['total']
    assert round(total['parameters_in_file'] / 1e9, 2) == billions


def test_components_of_the_base_model(report):
    shown = report('--model', 'cogact-base')
    parts = {part['name']: part for part in shown['components']}
    assert tuple(parts) == COMPONENTS
    for name, millions in NEEDED_MILLIONS.items():
        assert parts[name]['parameters'] == round(millions * 1e6)
    assert parts['dino']['parameters_in_file'] == 303_230_976
    assert parts['siglip']['parameters_in_file'] == 427_680_704
    assert parts['action_head']['parameters_in_file'] == 88_986_887
    assert shown['total']['original_macs_needed'] / 1e9 == pytest.approx(2095, rel=0.01)
    for key in ('macs', 'flops', 'bytes_read', 'parameters', 'original_macs'):
        assert shown['total'][key] == sum(part[key] for part in parts.values())
    assert shown['total']['floor_s'] == pytest.approx(
        sum(part['floor_s'] for part in parts.values())
    )


def test_embedded_model_has_nothing_unused_in_its_file(report):
    with safe_open(WEIGHTS_FOLDER / 'tabletop-pick' / 'model.safetensors', framework='np') as file:
        in_file = sum(file.get_tensor(name).size for name in file.keys())  # noqa: SIM118
    total = report('--model', 'tabletop-pick')['total']
    assert total['parameters_in_file'] == total['parameters'] == in_file


def test_options_reach_the_arithmetic(report):
    plain = report('--model', 'cogact-base')
    other = report(
        '--model', 'cogact-base', '--prompt-tokens', 64, '--ddim-steps', 5, '--guidance', 1,
        '--dtype', 'float32', '--peak-tflops', 1e9, '--bandwidth-gbs', 100,
    )  # fmt: skip
    assert other['workload'] == {
        'visual_tokens': 256, 'prompt_tokens': 64, 'ddim_steps': 5, 'guidance': 1.0,
        'dtype': 'float32', 'original': False,
    }  # fmt: skip
    head, plain_head = (next(c for c in r['components'] if c['name'] == 'action_head')
                        for r in (other, plain))  # fmt: skip
    assert head['macs'] == pytest.approx(plain_head['macs'] / 4, rel=1e-2)
    # With arithmetic for nothing, only the memory is left.
    assert other['total']['floor_s'] == pytest.approx(other['total']['bytes_read'] / 100e9)
    assert other['memory']['weight_bytes'] > 1.9 * plain['memory']['weight_bytes']


def test_command_works_from_the_shell():
    command = [sys.executable, '-m', 'efficientvla_ros.cli.main', 'inspect']
    result = subprocess.run(command, capture_output=True, text=True, timeout=110)
    assert result.returncode == 0, result.stderr
    assert result.stdout.startswith('tabletop-small: 64 visual + 30 prompt tokens')


def test_tables_are_plain_text_where_there_is_no_terminal(inspect):
    result = inspect('--model', 'openvla-7b')
    assert result.returncode == 0, result.stderr
    assert '\x1b' not in result.stdout and result.stdout.isascii()
    table = {line.split()[0]: line.split() for line in result.stdout.splitlines() if line}
    assert table['siglip'][1:3] == ['427.7', '397.2']
    assert table['lm_head'][1:3] == ['131.3', '131.3']
    assert '7 action tokens' in result.stdout and 'TFLOP/s' in result.stdout


def test_report_file_holds_what_is_printed(inspect, report, tmp_path):
    path = tmp_path / 'new' / 'cost.json'
    result = inspect('--model', 'cogact-small', '--json', path)
    assert result.returncode == 0, result.stderr
    assert json.loads(path.read_text()) == report('--model', 'cogact-small')
    assert 'cogact-small' in result.stdout


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        (
            ('--model', 'huge'),
            "model 'huge' is unknown, expected one of tabletop-pick, tabletop-small, tabletop",
        ),
        (('--prompt-tokens', 1), 'expected at least 2'),
        (('--prompt-tokens', 500), 'model tabletop-small takes at most 192'),
        (('--ddim-steps', 11), 'expected one of 1, 2'),
        (('--model', 'openvla-7b', '--guidance', 2), 'has no diffusion head'),
        (('--dtype', 'int3'), "dtype 'int3' is unknown"),
        (('--peak-tflops', 0), '--peak-tflops is 0, expected more than 0'),
        (('--bandwidth-gbs', 'nan'), '--bandwidth-gbs is nan, expected more than 0'),
        (('--json', '/proc/none/x'), '--json /proc/none/x: cannot be written'),
    ],
)
def test_unusable_input_is_one_line_and_exit_code_2(inspect, arguments, message):
    inspect(*arguments).assert_refused(message)


def test_page_on_released_models_shows_what_is_printed(inspect):
    page = (Path(__file__).resolve().parents[2] / 'docs' / 'models.md').read_text()
    printed = inspect('--model', 'cogact-base').stdout.splitlines()
    table = [line.rstrip() for line in printed[: 2 + len(COMPONENTS) + 1]]
    assert '```text\n' + '\n'.join(table) + '\n```' in page
    for name in ('cogact-small', 'cogact-base', 'cogact-large', 'openvla-7b'):
        sizes = [report_memory(inspect, name, kind) for kind in ('bfloat16', 'float32')]
        assert f'| `{name}` | {sizes[0]} | {sizes[1]} |' in page


def report_memory(inspect, model: str, dtype: str) -> str:
    shown = json.loads(inspect('--model', model, '--dtype', dtype, '--json', '-').stdout)
    return f'{shown["memory"]["weight_bytes"] / 1e9:.1f} GB'
