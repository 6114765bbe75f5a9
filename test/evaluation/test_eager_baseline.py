"""CogACT as the original code runs it, on transformers' networks, gives the policy's numbers."""

from __future__ import annotations

import sys

import numpy as np
import pytest
import torch

from efficientvla_ros.evaluation.eager_baseline import EagerBaseline
from efficientvla_ros.models.cogact import CogACT
from efficientvla_ros.models.config import (
    IMAGENET_MEAN,
    IMAGENET_STD,
    CogACTConfig,
    DiTConfig,
    LlamaConfig,
    OpenVLAConfig,
    ViTConfig,
)
from efficientvla_ros.models.images import to_input
from efficientvla_ros.models.openvla import OpenVLA
from efficientvla_ros.models.random_weights import init_weights
from efficientvla_ros.models.statistics import ActionStatistics
from efficientvla_ros.runtime.stopwatch import Stopwatch
from efficientvla_ros.types import InputError

TOLERANCE = 1e-5
SIZE = 56
STAGES = ['preprocess', 'vision', 'language', 'action_head', 'postprocess']
VLM = {
    'dino': ViTConfig(
        32, 4, 4, 128, prefix_tokens=5, layer_scale=True, mean=IMAGENET_MEAN, std=IMAGENET_STD
    ),
    'siglip': ViTConfig(48, 3, 4, 80),
    'llm': LlamaConfig(64, 3, 4, 2, 96, vocab_size=96, max_positions=64),
    'image_size': SIZE,
    'projector_width': 96,
}
STATISTICS = ActionStatistics(
    q01=np.linspace(-0.3, -0.1, 7),
    q99=np.linspace(0.2, 0.5, 7),
    mask=np.array([True] * 6 + [False]),
)


def policy_of(dtype: torch.dtype = torch.float32) -> CogACT:
    head = DiTConfig(32, 2, 4, horizon=6)
    model = init_weights(CogACT(CogACTConfig(name='small', head=head, **VLM)), seed=3)
    generator = torch.Generator().manual_seed(1)
    for value in model.parameters():
        # Gains and biases away from one and zero, so that leaving one out shows.
        if value.ndim == 1:
            value.data += 0.2 * torch.randn(value.shape, generator=generator)
    for part in (model.vision_backbone, model.projector, model.llm_backbone):
        for value in part.parameters():
            value.data = value.data.to(dtype)
    return model.eval().requires_grad_(False)


@pytest.fixture(scope='module')
def policy() -> CogACT:
    return policy_of()


@pytest.fixture(scope='module')
def baseline(policy) -> EagerBaseline:
    return EagerBaseline(policy, STATISTICS)


@pytest.fixture(scope='module')
def image() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (SIZE, SIZE, 3), dtype=np.uint8)


@pytest.fixture(scope='module')
def ids() -> torch.Tensor:
    return torch.tensor([[1, 5, 40, 7, 29, 2]])


@pytest.fixture(scope='module')
def noise() -> torch.Tensor:
    return torch.randn(1, 6, 7, generator=torch.Generator().manual_seed(2))


def relative_error(found: torch.Tensor, expected: torch.Tensor) -> float:
    return float((found - expected).abs().max() / expected.abs().max())


@torch.inference_mode()
def test_visual_tokens_and_cognition_feature_are_the_policys(policy, baseline, image, ids):
    expected = baseline.visual_tokens(*baseline.pixels(image))
    found = policy.visual_tokens(to_input(image, SIZE))
    assert relative_error(found, expected) <= TOLERANCE
    feature = baseline.cognition(expected, ids)
    assert feature.shape == (1, 64)
    assert relative_error(policy.cognition(expected, ids), feature) <= TOLERANCE


@pytest.mark.parametrize('steps', [1, 2, 5, 10, 50])
@pytest.mark.parametrize('guidance', [1.0, 1.5, 3.0])
@torch.inference_mode()
def test_samples_are_the_policys(policy, noise, steps, guidance):
    feature = torch.randn(1, 64, generator=torch.Generator().manual_seed(4))
    eager = EagerBaseline(policy, STATISTICS, steps=steps, guidance=guidance)
    found = policy.sampler(steps=steps, guidance=guidance)(feature, noise)
    assert relative_error(found, eager.sample(feature, noise)) <= TOLERANCE


@torch.inference_mode()
def test_actions_from_image_to_physical_units_are_the_policys(policy, baseline, image, ids, noise):
    watch = Stopwatch(torch.device('cpu'))
    noise = 0.05 * noise  # sampling scales noise up when weights are random
    actions = baseline.run(image, ids, noise, watch)
    assert list(watch.seconds) == STAGES
    raw = policy(to_input(image, SIZE), ids, noise)[0].double().numpy()
    assert 0.3 < (np.abs(raw) < 1.0).mean() < 1.0  # some are clipped, many are not
    clipped = raw.clip(-1.0, 1.0)
    for k, (low, high) in enumerate(zip(STATISTICS.q01[:6], STATISTICS.q99[:6])):
        expected = (clipped[:, k] + 1.0) / 2.0 * (high - low) + low
        np.testing.assert_allclose(actions[:, k], expected, atol=TOLERANCE)
    np.testing.assert_array_equal(actions[:, 6], (clipped[:, 6] >= 0.5).astype(float))


@torch.inference_mode()
def test_a_camera_image_is_resized_by_pillow_and_normalised_for_each_tower(baseline):
    from PIL import Image

    camera = np.random.default_rng(1).integers(0, 256, (48, 80, 3), dtype=np.uint8)
    resized = Image.fromarray(camera).resize((SIZE, SIZE), Image.Resampling.BICUBIC)
    values = np.asarray(resized).transpose(2, 0, 1) / 255.0
    dino, siglip = baseline.pixels(camera)
    mean, std = (np.array(v)[:, None, None] for v in (IMAGENET_MEAN, IMAGENET_STD))
    np.testing.assert_allclose(dino[0].numpy(), (values - mean) / std, atol=1e-5)
    np.testing.assert_allclose(siglip[0].numpy(), (values - 0.5) / 0.5, atol=1e-5)


@torch.inference_mode()
def test_the_last_block_runs_and_all_positions_get_logits(policy, image, ids, monkeypatch):
    import torch.nn.functional as F

    baseline = EagerBaseline(policy, STATISTICS)
    shapes = []
    linear = F.linear

    def recording(x, weight, bias=None):
        shapes.append((tuple(x.shape), tuple(weight.shape)))
        return linear(x, weight, bias)

    monkeypatch.setattr(F, 'linear', recording)
    visual = baseline.visual_tokens(*baseline.pixels(image))
    assert shapes.count(((1, 16, 48), (80, 48))) == 3  # SigLIP: three blocks, features of two
    assert shapes.count(((1, 21, 32), (128, 32))) == 4  # DINOv2: four blocks, features of three
    shapes.clear()
    baseline.cognition(visual, ids)
    positions = 16 + ids.shape[1]
    assert shapes.count(((1, positions, 64), (96, 64))) == 2 * 3 + 1  # gate, up; then the logits


@torch.inference_mode()
def test_weights_are_shared_and_a_change_of_the_policy_is_seen(image):
    policy = policy_of()
    baseline = EagerBaseline(policy, STATISTICS)
    pixels = baseline.pixels(image)
    before = baseline.visual_tokens(*pixels)
    policy.vision_backbone.siglip_featurizer.blocks[1].attn.qkv.weight[100:] += 0.5
    after = baseline.visual_tokens(*pixels)
    assert not torch.equal(before, after)
    expected = policy.visual_tokens(to_input(image, SIZE))
    assert relative_error(after, expected) <= TOLERANCE


@torch.inference_mode()
def test_a_bfloat16_policy_keeps_its_float32_head(image, ids, noise):
    policy = policy_of(torch.bfloat16)
    baseline = EagerBaseline(policy, STATISTICS)
    visual = baseline.visual_tokens(*baseline.pixels(image))
    feature = baseline.cognition(visual, ids)
    assert visual.dtype == feature.dtype == torch.bfloat16
    assert baseline.sample(feature, noise).dtype == torch.float32
    actions = baseline.run(image, ids, noise, Stopwatch(torch.device('cpu')))
    assert actions.dtype == np.float64 and np.isfinite(actions).all()


def test_a_policy_without_diffusion_head_is_refused_in_one_line():
    config = OpenVLAConfig(name='tokens', **VLM)
    with pytest.raises(InputError, match="model 'tokens' has no diffusion head") as caught:
        EagerBaseline(OpenVLA(config), STATISTICS)
    assert '\n' not in str(caught.value)


def test_a_missing_library_is_named_with_its_remedy(policy, monkeypatch):
    monkeypatch.setitem(sys.modules, 'transformers', None)
    with pytest.raises(InputError, match='pip install transformers'):
        EagerBaseline(policy, STATISTICS)
