"""The report of a profile: what goes, how surely, and a picture of it."""

from __future__ import annotations

import json

import cv2
import pytest
import torch

from efficientvla_ros.acceleration.fingerprint import Fingerprint
from efficientvla_ros.acceleration.profile import CalibrationProfile
from efficientvla_ros.evaluation.calibration_report import (
    calibration_report,
    plot_report,
)
from efficientvla_ros.types import InputError


@pytest.fixture(scope='module')
def profile() -> CalibrationProfile:
    """Twelve layers, the later the less important, in ten episodes of two frames."""
    generator = torch.Generator().manual_seed(0)
    base = torch.linspace(0.3, 0.01, 12, dtype=torch.float64)
    noise = 0.001 * torch.randn(20, 12, generator=generator, dtype=torch.float64)
    square = 1.0 + torch.rand(12, 40, generator=generator, dtype=torch.float64)
    return CalibrationProfile(
        model='made',
        fingerprint=Fingerprint('a', ('b',) * 12),
        source='a recording',
        created='2026-01-01T00:00:00+00:00',
        sample_importance=base + noise,
        episodes=torch.arange(20) // 2,
        mlp_mean=torch.zeros(12, 40, dtype=torch.float64),
        mlp_mean_square=square,
        mlp_weight_norm=torch.ones(12, 40, dtype=torch.float64),
        attention_mean_square=torch.ones(12, 8, dtype=torch.float64),
        greedy_order=torch.tensor([9, 10, 8, 7, 6, 5, 4, 3]),
        greedy_protected=torch.tensor([0, 1, 2, 11]),
    )


def test_the_report_names_what_goes_and_how_surely(profile):
    report = calibration_report(profile, scoring_layer=2, keep=(8, 11), resamples=100)
    assert report['protected'] == [0, 1, 2, 11]
    assert report['removal_order'] == [10, 9, 8, 7, 6, 5, 4, 3]
    eight, eleven = report['selections']
    assert (eight['keep'], eight['removed']) == (8, [7, 8, 9, 10])
    assert (eleven['keep'], eleven['removed']) == (11, [10])
    assert eight['kept'] == [0, 1, 2, 3, 4, 5, 6, 11]
    assert eight['removed_share'] == [0.0] * 7 + [1.0] * 4 + [0.0]
    assert eleven['greedy_kept'] == [0, 1, 2, 3, 4, 5, 6, 7, 8, 10, 11]
    assert report['bootstrap']['unit'] == 'episodes'
    assert (report['frames'], report['episodes']) == (20, 10)
    json.dumps(report, allow_nan=False)


def test_the_share_of_the_score_that_goes_is_that_of_the_lowest_channels(profile):
    report = calibration_report(profile, scoring_layer=2, keep=(8, 11), resamples=10)
    for scores, share in zip(profile.mlp_scores, report['mlp']['score_removed']):
        lowest = scores.sort().values[:8]  # 40 channels at 25 % keep 32
        assert share == pytest.approx((lowest.sum() / scores.sum()).item())


def test_a_greedy_order_of_other_protected_layers_is_left_out(profile):
    report = calibration_report(profile, scoring_layer=1, keep=(8, 11), resamples=10)
    assert all('greedy_kept' not in selection for selection in report['selections'])


@pytest.mark.parametrize(
    ('options', 'message'),
    [
        ({'scoring_layer': 2, 'keep': [13]}, 'layers to keep is 13, expected 4 .. 12'),
        ({'scoring_layer': 2, 'keep': [3]}, 'layers to keep is 3, expected 4 .. 12'),
        ({'scoring_layer': 12, 'keep': [8]}, 'scoring layer is 12, expected 0 .. 11'),
    ],
)
def test_counts_beyond_the_model_are_refused(profile, options, message):
    with pytest.raises(InputError) as error:
        calibration_report(profile, **options)
    assert message in str(error.value)


def test_the_picture_is_drawn(profile, tmp_path):
    picture = tmp_path / 'made' / 'layers.png'
    plot_report(calibration_report(profile, scoring_layer=2, keep=(8, 11), resamples=10), picture)
    image = cv2.imread(str(picture))
    assert image.shape[0] > 300
    assert image.std() > 10
