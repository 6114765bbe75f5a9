"""A sliced feed-forward network gives what the masked one gives, with fewer weights."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from efficientvla_ros.acceleration.layer_pruning import PruningError
from efficientvla_ros.acceleration.width_pruning import (
    channel_scores,
    kept_channel_count,
    kept_channels,
    slice_mlp,
)
from efficientvla_ros.models.config import CONFIGS, LlamaConfig
from efficientvla_ros.models.llama import LlamaMlp

CONFIG = LlamaConfig(width=24, layers=1, heads=4, kv_heads=4, mlp_width=40)


def network(dtype: torch.dtype = torch.float64, seed: int = 0) -> LlamaMlp:
    generator = torch.Generator().manual_seed(seed)
    mlp = LlamaMlp(CONFIG).to(dtype).requires_grad_(False)
    for weight in mlp.parameters():
        weight.copy_(0.3 * torch.randn(weight.shape, generator=generator, dtype=torch.float64))
    return mlp


def tokens(seed: int = 1) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(2, 50, 24, generator=generator, dtype=torch.float64) + 0.5


def intermediate(mlp: LlamaMlp, x: torch.Tensor) -> torch.Tensor:
    return torch.nn.functional.silu(mlp.gate_proj(x)) * mlp.up_proj(x)


@pytest.mark.parametrize(
    ('width', 'ratio', 'count'),
    [
        (11008, 0.25, 8256),
        (11008, 0.4, 6592),
        (352, 0.25, 264),
        (704, 0.25, 528),
        (1024, 0.25, 768),
        (11008, 0.0, 11008),
        (1100, 0.0, 1100),
        (1100, 0.001, 1088),
        (1020, 0.001, 1016),
        (24, 0.5, 16),
        (40, 0.99, 8),
        (5, 0.5, 5),
    ],
)
def test_kept_channels_are_a_multiple_that_suits_the_hardware(width, ratio, count):
    assert kept_channel_count(width, ratio) == count


@pytest.mark.parametrize('name', sorted(CONFIGS))
def test_a_quarter_of_the_channels_of_every_model_can_go_to_rounding(name):
    width = CONFIGS[name].llm.mlp_width
    count = kept_channel_count(width, 0.25)
    assert abs(count - 0.75 * width) <= 32
    assert count % 8 == 0


@pytest.mark.parametrize('ratio', [-0.1, 1.0, float('nan'), float('inf')])
def test_a_ratio_out_of_range_is_refused(ratio):
    with pytest.raises(PruningError, match=r'MLP ratio is .*, expected 0 or more and below 1'):
        kept_channel_count(64, ratio)


@given(
    scores=st.lists(st.sampled_from([0.0, 1.0, 2.0]), min_size=1, max_size=40),
    data=st.data(),
)
def test_the_highest_scores_stay_and_of_equal_ones_the_first(scores, data):
    count = data.draw(st.integers(1, len(scores)))
    order = sorted(range(len(scores)), key=lambda index: (-scores[index], index))
    kept = kept_channels(torch.tensor(scores), count)
    assert kept.tolist() == sorted(order[:count])


@pytest.mark.parametrize('count', [0, 4])
def test_a_number_of_channels_that_does_not_fit_is_refused(count):
    with pytest.raises(PruningError, match=rf'channels to keep is {count}, expected 1 \.\. 3'):
        kept_channels(torch.ones(3), count)


def test_scores_are_variance_times_squared_column_norm():
    down = torch.tensor([[1.0, 2.0, 0.0], [3.0, 0.0, 0.5]])
    scores = channel_scores(down, torch.tensor([0.1, 2.0, 4.0]))
    torch.testing.assert_close(scores, torch.tensor([1.0, 8.0, 1.0], dtype=torch.float64))


@given(seed=st.integers(0, 1000), count=st.integers(1, 39))
def test_slicing_equals_masking_with_the_mean_in_the_place_of_what_is_gone(seed, count):
    mlp, x = network(seed=seed), tokens(seed)
    hidden = intermediate(mlp, x)
    mean = hidden.mean((0, 1))
    kept = torch.randperm(40, generator=torch.Generator().manual_seed(seed))[:count].sort().values
    is_kept = torch.zeros(40, dtype=torch.bool)
    is_kept[kept] = True
    masked = mlp.down_proj(torch.where(is_kept, hidden, mean))
    sliced = slice_mlp(mlp, kept, mean)
    torch.testing.assert_close(sliced(x), masked, rtol=1e-12, atol=1e-12)


def test_slicing_keeps_the_mean_output_and_plain_masking_does_not():
    mlp, x = network(), tokens()
    hidden = intermediate(mlp, x)
    variance, mean = hidden.var((0, 1), correction=0), hidden.mean((0, 1))
    kept = kept_channels(channel_scores(mlp.down_proj.weight, variance), 24)
    wanted = mlp(x).mean((0, 1))
    torch.testing.assert_close(slice_mlp(mlp, kept, mean)(x).mean((0, 1)), wanted)
    uncompensated = slice_mlp(mlp, kept, torch.zeros(40))(x).mean((0, 1))
    assert (uncompensated - wanted).norm() > 1e-2 * wanted.norm()


def test_scores_predict_the_error_of_removing_one_channel():
    mlp, x = network(), tokens()
    hidden = intermediate(mlp, x)
    variance, mean = hidden.var((0, 1), correction=0), hidden.mean((0, 1))
    scores = channel_scores(mlp.down_proj.weight, variance)
    errors = []
    for channel in range(40):
        kept = torch.tensor([index for index in range(40) if index != channel])
        difference = slice_mlp(mlp, kept, mean)(x) - mlp(x)
        errors.append(difference.square().sum(-1).mean())
    # FLAP's score is exactly that error, in the mean over the tokens of the calibration.
    torch.testing.assert_close(torch.stack(errors), scores, rtol=1e-6, atol=0.0)


def test_a_sliced_network_is_physically_smaller_and_the_original_whole():
    mlp = network(torch.float32)
    before = [weight.clone() for weight in mlp.parameters()]
    sliced = slice_mlp(mlp, torch.arange(0, 40, 2), torch.ones(40))
    shapes = {name: tuple(value.shape) for name, value in sliced.named_parameters()}
    assert shapes == {
        'gate_proj.weight': (20, 24),
        'up_proj.weight': (20, 24),
        'down_proj.weight': (24, 20),
        'down_proj.bias': (24,),
    }
    for value in sliced.parameters():
        assert value.is_contiguous()
        assert value.untyped_storage().nbytes() == value.numel() * value.element_size()
        assert not value.requires_grad
    assert all(torch.equal(a, b) for a, b in zip(before, mlp.parameters()))


def test_a_sliced_network_has_the_type_of_the_original():
    sliced = slice_mlp(network(torch.bfloat16), torch.arange(8), torch.ones(40))
    assert {value.dtype for value in sliced.parameters()} == {torch.bfloat16}
    assert sliced(tokens().bfloat16()).dtype == torch.bfloat16


def test_all_channels_are_the_original_itself():
    mlp = network()
    assert slice_mlp(mlp, torch.arange(40), torch.ones(40)) is mlp


def test_means_of_another_model_are_refused():
    with pytest.raises(PruningError, match='channel means have 39 values, expected 40'):
        slice_mlp(network(), torch.arange(8), torch.ones(39))
