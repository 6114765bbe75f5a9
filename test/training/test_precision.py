"""Steps in bfloat16: the same losses and gradients, up to rounding; float32 is left alone."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from efficientvla_ros.training.precision import bfloat16_is_slow, precision
from efficientvla_ros.training.settings import TrainSettings
from efficientvla_ros.types import InputError

CPU = torch.device('cpu')


def heads(count: int) -> torch.Tensor:
    return torch.randn(2, count, 5, 8, requires_grad=True)


@pytest.fixture(autouse=True)
def seed() -> None:
    torch.manual_seed(0)


@pytest.mark.parametrize('key_heads', [4, 2])
@pytest.mark.parametrize('masked', ['causal', 'mask', 'all'])
def test_attention_and_its_gradients_are_those_of_the_fused_kernel(masked, key_heads):
    q, k, v = heads(4), heads(key_heads), heads(key_heads)
    mask = torch.rand(5, 5) < 0.5
    mask.fill_diagonal_(True)
    options = {
        'attn_mask': mask if masked == 'mask' else None,
        'is_causal': masked == 'causal',
        'enable_gqa': key_heads != 4,
    }
    weight = torch.randn(2, 4, 5, 8)

    def gradients(kind: str) -> list[torch.Tensor]:
        with precision(kind, CPU):
            mixed = F.scaled_dot_product_attention(q, k, v, **options)
        return [mixed, *torch.autograd.grad((mixed * weight).sum(), (q, k, v))]

    for rounded, exact in zip(gradients('bfloat16'), gradients('float32'), strict=True):
        assert (rounded - exact).norm() < 0.02 * exact.norm()


def test_products_are_rounded_in_bfloat16_alone():
    linear, x = torch.nn.Linear(16, 16), torch.randn(3, 16)
    exact = linear(x)
    with precision('float32', CPU):
        assert torch.equal(linear(x), exact)
    with precision('bfloat16', CPU):
        assert linear(x).dtype == torch.bfloat16
    assert linear.weight.dtype == torch.float32
    assert torch.equal(linear(x), exact), 'nothing is left of it'


def test_another_precision_is_refused_by_name():
    with pytest.raises(InputError, match="precision is 'float8', expected one of float32, bf"):
        TrainSettings.from_dict({'precision': 'float8'})


@pytest.mark.parametrize(
    ('found', 'slow'),
    [
        ({'architecture': 'x86_64', 'avx512_f': True, 'avx512_bf16': False}, True),
        ({'architecture': 'x86_64', 'avx512_bf16': True}, False),
        ({'architecture': 'x86_64', 'avx512_bf16': False, 'amx_bf16': True}, False),
        ({'architecture': 'aarch64'}, False),
    ],
)
def test_a_processor_that_emulates_bfloat16_is_recognised(found, slow, monkeypatch):
    monkeypatch.setattr(torch.cpu, 'get_capabilities', lambda: found, raising=False)
    assert bfloat16_is_slow(CPU) == slow
    assert not bfloat16_is_slow(torch.device('cuda'))
