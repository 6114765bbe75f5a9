"""The noise schedule and the sampler against a float64 reference written from the papers."""

import copy
import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from efficientvla_ros.models.config import DiTConfig
from efficientvla_ros.models.diffusion import (
    DiffusionSampler,
    ScheduleError,
    add_noise,
    alphas_cumprod,
    ddim_coefficients,
    ddim_timesteps,
)
from efficientvla_ros.models.dit import DiT

VALID_STEPS = [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 12, 13, 15, 17, 20, 25, 34, 50, 100]
WIDTH = 24


@pytest.fixture(scope='module')
def head() -> DiT:
    torch.manual_seed(0)
    net = DiT(DiTConfig(width=32, depth=2, heads=4, horizon=5), WIDTH).eval()
    for parameter in net.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    return net.requires_grad_(False)


def test_ten_steps_start_at_time_ninety_with_the_published_coefficients():
    assert ddim_timesteps(10) == (90, 80, 70, 60, 50, 40, 30, 20, 10, 0)
    first, last = ddim_coefficients(10)[0], ddim_coefficients(10)[-1]
    assert first == pytest.approx((2.08723688, -1.11025947), abs=1e-7)
    assert last == pytest.approx((1.00031579, -0.02513325), abs=1e-7)
    assert alphas_cumprod()[50] == pytest.approx(0.47826463, abs=1e-8)


def test_one_step_is_the_middle_of_the_schedule():
    assert ddim_timesteps(1) == (50,)


@pytest.mark.parametrize('steps', range(1, 101))
def test_only_step_counts_with_an_integer_stride_are_taken(steps):
    if steps in VALID_STEPS:
        assert len(ddim_timesteps(steps)) == steps
    else:
        with pytest.raises(ScheduleError, match='expected one of 1, 2, 3'):
            ddim_timesteps(steps)


def naive_sample(net: DiT, z: torch.Tensor, noise: torch.Tensor, steps: int, scale: float):
    """DDIM written down step by step in float64, both guidance branches separately."""
    x = noise.double().numpy()
    alphas = alphas_cumprod()
    times = ddim_timesteps(steps)
    for i, t in enumerate(times):
        time = torch.tensor([t])
        eps = net(torch.tensor(x), time, z).numpy()
        if scale > 1:
            free = net(torch.tensor(x), time, net.z_embedder.uncondition).numpy()
            eps = free + scale * (eps - free)
        a = alphas[t]
        b = alphas[times[i + 1]] if i + 1 < len(times) else 1.0
        clean = (x - math.sqrt(1 - a) * eps) / math.sqrt(a)
        x = math.sqrt(b) * clean + math.sqrt(1 - b) * eps
    return x


@pytest.fixture(scope='module')
def head64(head) -> DiT:
    return copy.deepcopy(head).double()


@pytest.mark.parametrize('steps', VALID_STEPS)
@pytest.mark.parametrize('scale', [1.0, 1.5])
def test_sampler_equals_the_naive_float64_one(head, head64, steps, scale):
    generator = torch.Generator().manual_seed(steps)
    z, noise = (torch.randn(1, *shape, generator=generator) for shape in ((WIDTH,), (5, 7)))
    expected = naive_sample(head64, z.double(), noise.double(), steps, scale)
    size = np.abs(expected).max()
    exact = DiffusionSampler(head64, steps=steps, guidance=scale)(z.double(), noise.double())
    assert np.abs(exact.numpy() - expected).max() <= 1e-10 * size
    single = DiffusionSampler(head, steps=steps, guidance=scale)(z, noise)
    assert np.abs(single.numpy() - expected).max() <= 1e-5 * size


def test_a_batch_equals_its_rows(head64):
    z, noise = torch.randn(3, WIDTH).double(), torch.randn(3, 5, 7).double()
    sampler = DiffusionSampler(head64, steps=5, guidance=1.5)
    together = sampler(z, noise)
    for i in range(3):
        alone = sampler(z[i : i + 1], noise[i : i + 1])
        assert torch.allclose(together[i], alone[0], atol=1e-10)


def test_a_feature_of_another_type_is_cast_to_the_heads(head):
    z, noise = torch.randn(1, WIDTH).bfloat16(), torch.randn(1, 5, 7)
    sampler = DiffusionSampler(head, steps=2, guidance=1.5)
    assert torch.equal(sampler(z, noise), sampler(z.float(), noise))


def test_guidance_of_one_or_less_is_off(head):
    z, noise = torch.randn(1, WIDTH), torch.randn(1, 5, 7)
    one, less = (DiffusionSampler(head, steps=5, guidance=g)(z, noise) for g in (1.0, 0.3))
    more = DiffusionSampler(head, steps=5, guidance=1.01)(z, noise)
    assert torch.equal(one, less) and not torch.equal(one, more)


def test_an_invalid_number_of_steps_is_refused_when_the_sampler_is_made(head):
    with pytest.raises(ScheduleError, match='11 DDIM steps'):
        DiffusionSampler(head, steps=11, guidance=1.5)


def test_prediction_equals_the_parts_put_together(head64):
    head = head64
    x, t, z = torch.randn(2, 5, 7).double(), torch.tensor([3, 70]), torch.randn(2, WIDTH).double()
    condition = head.t_embedder(t) + head.z_embedder(z)
    assert torch.equal(head(x, t, z), head.denoise(x, condition))


@given(st.integers(0, 99), st.integers(0, 2**20))
def test_noise_is_added_with_the_power_of_the_schedule(t, seed):
    rng = torch.Generator().manual_seed(seed)
    actions, noise = (torch.randn(1, 4, 7, generator=rng).double() for _ in range(2))
    a = alphas_cumprod()[t]
    expected = math.sqrt(a) * actions + math.sqrt(1 - a) * noise
    assert torch.allclose(add_noise(actions, noise, torch.tensor([t])), expected, atol=1e-12)


def test_the_true_noise_leads_back_to_the_clean_actions():
    clean, noise = torch.randn(1, 5, 7).double(), torch.randn(1, 5, 7).double()
    times = ddim_timesteps(10)
    x = add_noise(clean, noise, torch.tensor([times[0]]))
    for a, b in ddim_coefficients(10):
        x = a * x + b * noise
    assert torch.allclose(x, clean, atol=1e-9)
