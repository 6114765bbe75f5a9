"""Stage `head`: features serve many steps, and noise comes in all sizes."""

import copy
import json
import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tiny_run import HORIZON, tiny_config, tiny_settings

from efficientvla_ros.models.cogact import CogACT
from efficientvla_ros.models.diffusion import alphas_cumprod
from efficientvla_ros.models.random_weights import init_weights
from efficientvla_ros.training import features as module
from efficientvla_ros.training.batches import BatchSource
from efficientvla_ros.training.dataset import load_demonstrations
from efficientvla_ros.training.features import Features, FeatureWindow
from efficientvla_ros.training.losses import _later, head_loss
from efficientvla_ros.training.parallel import train
from efficientvla_ros.training.settings import StageSettings, TrainSettings
from efficientvla_ros.training.validation import Validation
from efficientvla_ros.types import InputError


def numbered(computed):
    """Computes features that say which batch they are of, and writes down which were asked for."""

    def compute(number):
        computed.append(number)
        return Features(torch.full((2, 3), float(number)), torch.full((2, 4, 7), float(number)))

    return compute


def test_without_reuse_a_step_has_its_own_batch():
    computed = []
    window = FeatureWindow(numbered(computed), reuse=1)
    for step in range(4):
        assert window.at(step).cognition.unique().tolist() == [step]
    assert computed == [0, 1, 2, 3]


def test_with_reuse_the_window_moves_on_by_one_batch(monkeypatch):
    monkeypatch.setattr(module, 'WINDOW', 3)
    computed = []
    window = FeatureWindow(numbered(computed), reuse=5)
    for step in range(11):
        first = step // 5
        assert window.at(step).cognition.unique().tolist() == [first, first + 1, first + 2]
    assert computed == [0, 1, 2, 3, 4]  # each batch once


def test_a_resumed_window_is_that_of_an_unbroken_run(monkeypatch):
    monkeypatch.setattr(module, 'WINDOW', 3)
    unbroken, resumed = (FeatureWindow(numbered([]), reuse=2) for _ in range(2))
    for step in range(8):
        expected = unbroken.at(step)
    assert torch.equal(resumed.at(7).cognition, expected.cognition)


def test_drawn_rows_keep_features_and_plans_together():
    features = Features(torch.arange(10.0).view(10, 1), torch.arange(10.0).view(10, 1, 1))
    drawn = features.draw(50, np.random.default_rng(0))
    assert torch.equal(drawn.cognition[:, 0], drawn.actions[:, 0, 0])
    assert len(drawn.cognition.unique()) > 5


class Recorder(torch.nn.Module):
    """A noise predictor that knows nothing, and keeps what it was shown."""

    def __init__(self, net):
        super().__init__()
        self.z_embedder, self.run_blocks, self.seen = net.z_embedder, net.run_blocks, []

    def forward(self, x, t, z, stack=None):
        self.seen.append((x, t))
        return torch.zeros_like(x)


def shown(actions, **settings):
    """Noisy actions and times of one step, and its loss, of a head that predicts no noise."""
    model = init_weights(CogACT(tiny_config()), seed=1)
    net = Recorder(model.action_model.net)
    model.action_model.net = net
    features = Features(torch.zeros(len(actions), 32), actions)
    loss, _ = head_loss(model, features, tiny_settings(**settings), np.random.default_rng(0))
    return *net.seen[0], float(loss)


@pytest.mark.parametrize('quiet', [0.0, 1.0])
def test_quiet_draws_begin_at_every_size(quiet):
    x, t, loss = shown(torch.zeros(4000, HORIZON, 7), quiet_draws=quiet)
    sizes = x[t == 90].flatten(1).pow(2).mean(1).sqrt()
    # The mean square of a uniform size is a third; nothing predicted, the loss is just that.
    assert loss == pytest.approx(1 / 3 / (1 - alphas_cumprod()[90]) if quiet else 1.0, rel=0.05)
    assert (float(sizes.min()) < 0.1) == bool(quiet)


@pytest.mark.parametrize(('kind', 'expected'), [('mse', 1.0), ('l1', (2 / math.pi) ** 0.5)])
def test_the_error_of_predicting_no_noise_is_that_of_a_normal_distribution(kind, expected):
    loss = shown(torch.zeros(4000, HORIZON, 7), noise_loss=kind)[2]
    assert loss == pytest.approx(expected, rel=0.02)


def test_an_unknown_noise_loss_is_refused():
    with pytest.raises(InputError, match="noise_loss is 'l2', expected one of mse, l1"):
        TrainSettings.from_dict({'noise_loss': 'l2'})


def test_the_start_of_a_quiet_draw_says_nothing_of_the_actions():
    actions = torch.randn(40000, 1, 1).expand(-1, HORIZON, 7)
    x, t, _ = shown(actions, quiet_draws=1.0)
    first, last = t == 90, t == 0
    for rows, least, most in ((first, -0.02, 0.02), (last, 0.99, 1.0)):
        pairs = torch.stack((x[rows].flatten(), actions[rows].flatten()))
        assert least <= float(torch.corrcoef(pairs)[0, 1]) <= most


def reused(weight):
    """Loss and values of one step of a head that reuses what its blocks gave, and its calls."""
    torch.manual_seed(0)
    model = init_weights(CogACT(tiny_config()), seed=1)
    net, calls = model.action_model.net, []
    torch.nn.init.normal_(net.final_layer.linear.weight)
    net.register_forward_pre_hook(lambda _, inputs: calls.append(inputs))
    features = Features(torch.randn(64, 32), torch.randn(64, HORIZON, 7).clamp(-1, 1))
    settings = tiny_settings(cache_weight=weight, noise_loss='l1')
    loss, values = head_loss(model, features, settings, np.random.default_rng(0))
    return features.actions, net, calls, loss, values


def test_without_a_weight_features_are_not_reused():
    _, _, calls, loss, values = reused(0.0)
    assert len(calls) == 1 and set(values) == {'noise'}
    assert torch.equal(loss, reused(0.5)[-1]['noise'])


def test_reused_features_are_added_at_a_later_time_of_the_same_draw():
    actions, net, calls, loss, values = reused(0.5)
    (x, t, z, _), (later_x, later_t, later_z, _) = calls
    assert torch.equal(z, later_z)
    signal = torch.as_tensor(alphas_cumprod(), dtype=torch.float32).view(-1, 1, 1)
    noise, later_noise = (
        (noisy - signal[times].sqrt() * actions) / (1 - signal[times]).sqrt()
        for noisy, times in ((x, t), (later_x, later_t))
    )
    torch.testing.assert_close(noise, later_noise, atol=1e-4, rtol=1e-4)

    def embedded(x, t):
        token = (net.t_embedder(t) + net.z_embedder(z)).unsqueeze(1)
        return torch.cat((token, net.x_embedder(x)), dim=1) + net.positional_embedding

    tokens = embedded(x, t)
    residual = net.run_blocks(tokens) - tokens
    predicted = net.final_layer(embedded(later_x, later_t) + residual)[:, 1:]
    error = (predicted - noise).abs().mean()
    torch.testing.assert_close(values['cached'], error.detach(), atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(loss.detach(), values['noise'] + 0.5 * values['cached'])


@given(st.lists(st.integers(0, 99), min_size=1, max_size=50), st.integers(0, 2**32))
def test_features_are_reused_later_and_at_most_half_a_schedule_away(times, seed):
    later = _later(torch.tensor(times), 100, np.random.default_rng(seed)).tolist()
    for first, then in zip(times, later, strict=True):
        assert max(0, first - 50) <= then < max(first, 1)


def test_a_broken_off_head_that_reuses_features_ends_with_the_same_weights(
    finished, recording, tmp_path, monkeypatch
):
    from efficientvla_ros.training import trainer

    monkeypatch.setattr(module, 'WINDOW', 3)
    start, _ = finished
    none, stage = StageSettings(0, 4, 1e-3), StageSettings(7, 4, 1e-3)
    settings = TrainSettings(policy=none, head=stage, head_draws=2, head_reuse=3, quiet_draws=0.5)

    def run(folder):
        return train(
            tiny_config(), settings, [recording], folder, start=start
        ).average.state_dict()

    whole = run(tmp_path / 'whole')
    original = trainer.Trainer._one_step

    def breaking(self, parameters):
        if (self.stage, self.step) == ('head', 4):
            self.save()
            raise KeyboardInterrupt
        return original(self, parameters)

    monkeypatch.setattr(trainer.Trainer, '_one_step', breaking)
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / 'broken')
    monkeypatch.setattr(trainer.Trainer, '_one_step', original)
    resumed = run(tmp_path / 'broken')
    for name, value in resumed.items():
        assert torch.equal(value, whole[name]), name
    rows = (tmp_path / 'broken' / 'metrics.jsonl').read_text().splitlines()
    assert json.loads(rows[-1])['step'] == 7


def test_validation_of_the_head_looks_at_the_frozen_rest_once(finished, recording, monkeypatch):
    _, trainer = finished
    model, heads = copy.deepcopy(trainer.average), trainer.heads
    data = load_demonstrations([recording], 56, HORIZON)
    frames = np.arange(len(data.images))
    source = BatchSource(
        data, frames, tiny_config(), trainer.tokenizer, trainer.statistics, torch.device('cpu')
    )
    validate = Validation(lambda: source.fixed(4, 3))
    before = validate('head', model, heads)
    assert before == Validation(lambda: source.fixed(4, 3))('head', model, heads)
    monkeypatch.setattr(CogACT, 'visual_tokens', None)  # whoever looks again fails
    torch.nn.init.normal_(model.action_model.net.final_layer.linear.bias)
    after = validate('head', model, heads)
    assert set(before) == {'val_pixels', 'val_chunk', 'val_sampled', 'val_cached'}
    changed = {name for name in before if before[name] != after[name]}
    assert changed == {'val_sampled', 'val_cached'}
