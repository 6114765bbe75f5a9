"""AdamW and Muon over the parameters of a policy."""

from __future__ import annotations

import copy

import pytest
import torch
import torch.distributed as dist
from torch import nn

from efficientvla_ros.training import muon
from efficientvla_ros.training.optimizer import OPTIMIZERS, Optimizer

RATE = 1e-3


class Network(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embed_tokens = nn.Embedding(6, 8)
        self.layers = nn.ModuleList([nn.Linear(8, 8), nn.Linear(8, 24)])
        self.llm = nn.ModuleDict({'layers': self.layers})


@pytest.fixture
def network() -> Network:
    torch.manual_seed(0)
    network = Network()
    for parameter in network.parameters():
        parameter.grad = torch.randn_like(parameter)
    return network


def named(network: nn.Module) -> list[tuple[str, nn.Parameter]]:
    return [(f'policy.{name}', parameter) for name, parameter in network.named_parameters()]


def test_muon_takes_orthogonal_steps_of_adamw_size_with_hidden_matrices_alone(network):
    before = copy.deepcopy(network)
    Optimizer('muon', named(network)).step(RATE)
    for after, start in zip(network.layers, before.layers, strict=True):
        step = (after.weight - start.weight * (1 - 0.01 * RATE)) / RATE
        # Newton and Schulz bring every singular value near one; 0.2 sqrt(n) is AdamW's size.
        scale = 0.2 * max(step.shape) ** 0.5
        values = torch.linalg.svdvals(step / scale)
        assert values.min() > 0.5 and values.max() < 1.3
        assert (step * after.weight.grad).sum() < 0.0
    for name in ('embed_tokens.weight', 'layers.0.bias'):
        step = network.get_parameter(name) - before.get_parameter(name)
        assert torch.allclose(step.abs(), torch.full_like(step, RATE), rtol=0.05), name


@pytest.mark.parametrize('slow', [True, False])
@pytest.mark.parametrize('shape', [(8, 24), (24, 8), (8, 8)])
def test_orthogonalised_matrices_keep_their_directions(monkeypatch, slow, shape):
    monkeypatch.setattr(muon, 'bfloat16_is_slow', lambda device: slow)
    matrix = torch.randn(*shape, generator=torch.Generator().manual_seed(3))
    left, values, right = torch.linalg.svd(matrix, full_matrices=False)
    found = left.T @ muon.orthogonalised(matrix) @ right.T
    # Singular vectors stay; values of a tenth of the largest one and more come near one.
    off = found - torch.diag(found.diag())
    assert off.abs().max() < (1e-4 if slow else 0.1)
    near = found.diag()[values > 0.1 * values[0]]
    assert near.min() > 0.5 and near.max() < 1.3


def test_muon_is_that_of_torch(monkeypatch, network):
    monkeypatch.setattr(muon, 'bfloat16_is_slow', lambda device: False)
    other = copy.deepcopy(network)
    own = muon.Muon([layer.weight for layer in network.layers], RATE)
    reference = torch.optim.Muon(
        [layer.weight for layer in other.layers], RATE, 0.01, adjust_lr_fn='match_rms_adamw'
    )
    for layer, twin in zip(network.layers, other.layers, strict=True):
        twin.weight.grad = layer.weight.grad.clone()
    for _ in range(3):
        own.step()
        reference.step()
    for layer, twin in zip(network.layers, other.layers, strict=True):
        torch.testing.assert_close(layer.weight, twin.weight, atol=2e-5, rtol=0)


@pytest.mark.parametrize('kind', OPTIMIZERS)
def test_a_restored_optimiser_goes_on_as_if_nothing_had_happened(network, kind):
    first = Optimizer(kind, named(network))
    first.step(RATE)
    other = copy.deepcopy(network)
    for parameter, twin in zip(network.parameters(), other.parameters(), strict=True):
        twin.grad = parameter.grad.clone()
    second = Optimizer(kind, named(other))
    second.restore(copy.deepcopy(first.state()))
    for optimizer in (first, second):
        optimizer.step(RATE)
    for parameter, twin in zip(network.parameters(), other.parameters(), strict=True):
        assert torch.equal(parameter, twin)


def test_gradients_stay_allocated(network):
    Optimizer('muon', named(network)).zero_grad()
    Optimizer('adamw', named(network)).zero_grad()
    assert all(not parameter.grad.any() for parameter in network.parameters())


def _two_steps(rank: int, meeting: str, world: int) -> None:
    torch.manual_seed(0)
    network = Network()
    gradients = [torch.randn_like(parameter) for parameter in network.parameters()]
    dist.init_process_group('gloo', init_method=meeting, rank=rank, world_size=world)
    optimizer = Optimizer('muon', named(network), rank, world)
    for _ in range(2):
        for parameter, gradient in zip(network.parameters(), gradients, strict=True):
            parameter.grad = gradient.clone()
        optimizer.step(RATE)
    torch.save(network.state_dict(), f'{meeting[len("file://") :]}.{world}.{rank}')
    dist.destroy_process_group()


def test_processes_that_share_the_matrices_take_the_steps_of_one(tmp_path):
    store = tmp_path / 'store'
    for world in (1, 2):
        torch.multiprocessing.spawn(
            _two_steps, (f'file://{store}', world), nprocs=world, start_method='spawn'
        )
        store.unlink(missing_ok=True)
    alone, *shared = (torch.load(f'{store}.{name}') for name in ('1.0', '2.0', '2.1'))
    for weights in shared:
        assert all(torch.equal(weights[name], value) for name, value in alone.items())
