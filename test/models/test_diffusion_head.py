"""The diffusion head against its description, written out on the released names in NumPy."""

import math

import numpy as np
import pytest
import torch
from small_models import small_config

from efficientvla_ros.models.cogact import CogACT
from efficientvla_ros.models.dit import DiT
from efficientvla_ros.models.random_weights import init_weights

HEADS = 4


@pytest.fixture(scope='module')
def net() -> DiT:
    model = init_weights(CogACT(small_config()), seed=4)
    generator = torch.Generator().manual_seed(0)
    net = model.action_model.net.double().eval().requires_grad_(False)
    for value in net.parameters():
        # Biases away from zero, so that leaving one out shows.
        value.data += 0.3 * torch.randn(value.shape, generator=generator).double()
    return net


def norm(x: np.ndarray) -> np.ndarray:
    centred = x - x.mean(-1, keepdims=True)
    return centred / np.sqrt((centred**2).mean(-1, keepdims=True) + 1e-6)


def gelu_tanh(x: np.ndarray) -> np.ndarray:
    return 0.5 * x * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))


def described(state: dict[str, np.ndarray], x: np.ndarray, t: int, z: np.ndarray) -> np.ndarray:
    # x [horizon, 7], z [condition width] -> predicted noise [horizon, 7]
    def linear(name: str, value: np.ndarray) -> np.ndarray:
        return value @ state[f'{name}.weight'].T + state[f'{name}.bias']

    angles = [t * math.exp(-math.log(10000) * k / 128) for k in range(128)]
    wave = np.array([math.cos(a) for a in angles] + [math.sin(a) for a in angles])
    hidden = linear('t_embedder.mlp.0', wave)
    time = linear('t_embedder.mlp.2', hidden / (1 + np.exp(-hidden)))
    condition = time + linear('z_embedder.linear', z)
    tokens = np.vstack([condition, linear('x_embedder.linear', x)])
    tokens = tokens + state['positional_embedding']
    size = tokens.shape[1] // HEADS
    depth = 1 + max(int(name.split('.')[1]) for name in state if name.startswith('blocks.'))
    for i in range(depth):
        q, k, v = np.split(linear(f'blocks.{i}.attn.qkv', norm(tokens)), 3, axis=1)
        mixed = []
        for head in range(HEADS):
            part = slice(head * size, (head + 1) * size)
            score = np.exp(q[:, part] @ k[:, part].T / math.sqrt(size))
            mixed.append(score / score.sum(1, keepdims=True) @ v[:, part])
        tokens = tokens + linear(f'blocks.{i}.attn.proj', np.hstack(mixed))
        hidden = gelu_tanh(linear(f'blocks.{i}.mlp.fc1', norm(tokens)))
        tokens = tokens + linear(f'blocks.{i}.mlp.fc2', hidden)
    return linear('final_layer.linear', norm(tokens))[1:]


@pytest.mark.parametrize('t', [0, 1, 50, 90, 99])
def test_predicted_noise_is_that_of_the_description(net, t):
    state = {name: value.numpy() for name, value in net.state_dict().items()}
    rng = np.random.default_rng(t)
    x, z = rng.normal(size=(6, 7)), rng.normal(size=64)
    found = net(torch.tensor(x)[None], torch.tensor([t]), torch.tensor(z)[None])[0].numpy()
    expected = described(state, x, t, z)
    # Sinusoids are computed in float32, as in the reference.
    assert np.abs(found - expected).max() <= 1e-5 * np.abs(expected).max()
