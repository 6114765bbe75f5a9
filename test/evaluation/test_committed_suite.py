"""What docs/benchmark.md claims: measured with the weights that are in the package, still true."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from efficientvla_ros.evaluation.provenance import model_digest
from efficientvla_ros.evaluation.results_page import LARGE_SUITES, SUITES
from efficientvla_ros.simulation.goals import TASKS
from efficientvla_ros.simulation.variation import SETTINGS

SMALL, LARGE = 'tabletop-small', 'tabletop'
REPORTS = Path(__file__).resolve().parents[2] / 'docs' / 'reports'


@pytest.mark.parametrize(
    ('model', 'setting', 'name'),
    [
        (model, setting, name)
        for model, names in ((SMALL, SUITES), (LARGE, LARGE_SUITES))
        for setting, name in zip(SETTINGS, names, strict=True)
    ],
)
def test_suites_were_run_with_the_weights_in_the_package(model, setting, name):
    report = json.loads((REPORTS / name).read_text())
    assert report['settings']['model'] == model
    assert report['model_sha256'] == model_digest(model)
    assert set(report['cells'][setting]) == set(TASKS)
    assert {'dense', 'efficientvla', 'combined'} <= set(report['overall'][setting])


def test_so_were_the_other_presets_and_baselines():
    report = json.loads((REPORTS / 'suite_baselines.json').read_text())
    assert report['model_sha256'] == model_digest(SMALL)
    assert set(report['cells']['matching']) == set(TASKS)
    assert {'fastv', 'random', 'wanda_25', 'frozen_25'} <= set(report['overall']['matching'])


@pytest.mark.timeout(260)
@pytest.mark.parametrize(
    ('model', 'episodes', 'least'),
    # With less, a policy with 90 % success would be a surprise of one in 230, and one in 63.
    [(SMALL, 2, 8), (LARGE, 1, 4)],
)
def test_the_embedded_policies_do_all_tasks(model, episodes, least, tmp_path):
    """Unseen seeds of each task."""
    path = tmp_path / 'suite.json'
    command = [sys.executable, '-m', 'efficientvla_ros.cli.main', 'evaluate', '--task', 'all']
    command += ['--model', model, '--seed', '3000000', '--episodes', str(episodes)]
    command += ['--workers', '1', '--json', str(path)]
    subprocess.run(command, check=True, capture_output=True, timeout=250)
    reports = [json.loads(path.with_name(f'suite_{task}.json').read_text()) for task in TASKS]
    successes = [report['summary']['successes'] for report in reports]
    assert sum(successes) >= least, dict(zip(TASKS, successes, strict=True))
