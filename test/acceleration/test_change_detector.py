"""Similarity of vision features to the frame before and to the frame of the last update."""

from __future__ import annotations

import pytest
import torch

from efficientvla_ros.acceleration.change_detector import ChangeDetector

TOKENS, WIDTH = 9, 12


def frame(seed: int, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(1, TOKENS, WIDTH, generator=generator).to(dtype)


def naive(a: torch.Tensor, b: torch.Tensor) -> float:
    a, b = a[0].double(), b[0].double()
    cosines = [x @ y / (x.norm() * y.norm()) for x, y in zip(a, b)]
    return float(sum(cosines)) / len(cosines)


@pytest.mark.parametrize('dtype', [torch.float32, torch.bfloat16])
def test_similarity_is_the_mean_cosine_token_by_token(dtype):
    detector = ChangeDetector(TOKENS, WIDTH)
    frames = [frame(seed, dtype) for seed in range(6)]
    updated = None
    for index, features in enumerate(frames):
        similarity = detector.observe(features).tolist()
        if index:
            assert similarity[0] == pytest.approx(naive(features, frames[index - 1]), abs=1e-6)
            assert similarity[1] == pytest.approx(naive(features, updated), abs=1e-6)
        if index in (0, 3):
            detector.mark_update()
            updated = features


def test_a_still_scene_has_similarity_one_whatever_its_brightness():
    detector = ChangeDetector(TOKENS, WIDTH)
    detector.observe(frame(0))
    detector.mark_update()
    assert detector.observe(3.0 * frame(0)).tolist() == pytest.approx([1.0, 1.0], abs=1e-6)


def test_the_same_tokens_at_other_places_are_a_change():
    detector = ChangeDetector(TOKENS, WIDTH)
    detector.observe(frame(0))
    assert detector.observe(frame(0).roll(1, dims=1))[0] < 0.5


def test_a_slow_drift_shows_against_the_last_update_only():
    detector = ChangeDetector(TOKENS, WIDTH)
    start, end = frame(0), frame(1)
    detector.observe(start)
    detector.mark_update()
    found = [detector.observe(start + (end - start) * i / 100).tolist() for i in range(1, 101)]
    assert min(previous for previous, _ in found) > 0.999
    assert found[-1][1] == pytest.approx(naive(start, end), abs=1e-6)
    since_update = [update for _, update in found]
    assert since_update == sorted(since_update, reverse=True)


def test_features_that_are_not_finite_are_told_and_not_remembered_for_long():
    detector = ChangeDetector(TOKENS, WIDTH)
    detector.observe(frame(0))
    detector.mark_update()
    broken = frame(1)
    broken[0, 3, 2] = torch.nan
    assert detector.observe(broken).isnan().all()
    detector.observe(frame(2))
    assert detector.observe(frame(3)).isfinite().all()


def test_memory_stays_the_same_and_features_are_left_alone():
    detector = ChangeDetector(TOKENS, WIDTH)
    features = frame(0)
    address = detector.observe(features).data_ptr()
    assert torch.equal(features, frame(0))
    features.zero_()  # the caller may use its memory again
    assert detector.observe(frame(0))[0] == pytest.approx(1.0, abs=1e-6)
    assert detector.observe(frame(1)).data_ptr() == address
