"""A profile comes back from its file as it was, and only for the model that it is of."""

from __future__ import annotations

from dataclasses import fields, replace

import pytest
import torch
from calibration_helpers import random_samples, small_policy, small_profile
from safetensors import safe_open
from safetensors.torch import save_file

from efficientvla_ros.acceleration.calibration import calibrate
from efficientvla_ros.acceleration.fingerprint import Fingerprint, fingerprint
from efficientvla_ros.acceleration.profile import (
    PROFILE_FILE,
    ProfileError,
    load_profile,
    save_profile,
)


def refused(path, model=None) -> str:
    with pytest.raises(ProfileError) as error:
        load_profile(path, model)
    message = str(error.value)
    assert '\n' not in message
    assert str(path) in message
    return message


@pytest.fixture
def saved(tmp_path):
    model = small_policy()
    path = tmp_path / PROFILE_FILE
    save_profile(small_profile(model), path)
    return model, path


def test_a_profile_comes_back_as_it_was(tmp_path):
    model = small_policy()
    profile = calibrate(model, random_samples(3), source='here', greedy_protected=(0, 4))
    path = tmp_path / 'made' / PROFILE_FILE
    save_profile(profile, path)
    back = load_profile(path, model)
    for spec in fields(profile):
        value = getattr(profile, spec.name)
        if isinstance(value, torch.Tensor):
            assert torch.equal(getattr(back, spec.name), value), spec.name
        else:
            assert getattr(back, spec.name) == value
    assert back.source == 'here'
    assert list(path.parent.iterdir()) == [path]


def test_variance_and_scores_follow_from_the_statistics():
    profile = small_profile()
    variance = profile.mlp_mean_square - profile.mlp_mean**2
    assert (variance > 0).all()
    torch.testing.assert_close(profile.mlp_variance, variance, rtol=0, atol=0)
    torch.testing.assert_close(profile.mlp_scores, variance * profile.mlp_weight_norm)
    torch.testing.assert_close(profile.importance, profile.sample_importance.mean(0))


def test_a_profile_serves_its_model_in_bfloat16(saved):
    model, path = saved
    for part in (model.vision_backbone, model.projector, model.llm_backbone):
        part.bfloat16()
    load_profile(path, model)


def test_a_profile_serves_a_model_without_its_pruned_layers(saved):
    model, path = saved
    model.llm_backbone.llm.model.layers[3].to('meta')
    load_profile(path, model)


def test_a_model_whose_weights_are_nowhere_has_no_fingerprint():
    with pytest.raises(ValueError, match='meta device'):
        fingerprint(small_policy().to('meta'))


@pytest.mark.parametrize(
    'name',
    [
        'llm_backbone.llm.model.layers.3.input_layernorm.weight',
        'llm_backbone.llm.model.layers.4.mlp.down_proj.weight',
        'llm_backbone.llm.model.norm.weight',
        'projector.projector.0.bias',
        'action_model.net.z_embedder.uncondition',
    ],
)
def test_a_profile_of_other_weights_is_refused(saved, name):
    model, path = saved
    parameter = model.get_parameter(name)
    parameter.view(-1)[0] += 0.5
    message = refused(path, model)
    assert 'is of another model (small, ' in message
    assert 'efficientvla calibrate' in message


def test_a_profile_of_another_configuration_is_refused(saved):
    refused(saved[1], small_policy(layers=4))


def test_the_name_of_a_model_does_not_matter(saved):
    model, path = saved
    model.config = replace(model.config, name='copy')
    load_profile(path, model)


def test_a_missing_profile_is_named(tmp_path):
    assert 'does not exist' in refused(tmp_path / PROFILE_FILE)


def test_a_truncated_profile_is_named(saved):
    path = saved[1]
    path.write_bytes(path.read_bytes()[:-100])
    assert 'is damaged' in refused(path)


def test_another_file_is_no_profile(tmp_path):
    path = tmp_path / 'text.safetensors'
    path.write_text('importance: 1')
    assert 'is damaged' in refused(path)
    save_file({'sample_importance': torch.zeros(2, 2)}, path)
    assert 'not a calibration profile' in refused(path)


def rewrite(path, drop: tuple[str, ...] = (), metadata: dict | None = None, **tensors) -> None:
    with safe_open(path, framework='pt') as file:
        found = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        texts = file.metadata()
    found = {name: value for name, value in found.items() if name not in drop}
    save_file({**found, **tensors}, path, {**texts, **(metadata or {})})


@pytest.mark.parametrize(
    ('change', 'complaint'),
    [
        ({'mlp_mean': torch.full((5, 96), float('nan')).double()}, 'mlp_mean holds values that'),
        ({'mlp_mean': torch.zeros(5, 95).double()}, 'mlp_mean_square has 96 channels'),
        ({'mlp_mean': torch.zeros(5, 96)}, 'mlp_mean is torch.float32 (5, 96), expected'),
        ({'episodes': torch.zeros(2, dtype=torch.int64)}, 'episodes has 2 frames, expected 3'),
        ({'greedy_order': torch.tensor([3, 3])}, 'greedy_order is [3, 3]'),
        ({'greedy_order': torch.tensor([9])}, 'greedy_order is [9]'),
        ({'drop': ('mlp_mean',)}, 'mlp_mean'),
        ({'metadata': {'fingerprint': '{'}}, 'is damaged'),
        ({'metadata': {'fingerprint': '["a", "b"]'}}, 'the fingerprint is of 1 layers'),
    ],
)
def test_a_profile_with_unusable_content_is_refused(saved, change, complaint):
    rewrite(saved[1], **change)
    assert complaint in refused(saved[1])


def test_a_greedy_order_serves_only_plans_that_protect_the_same_layers():
    profile = calibrate(
        small_policy(), random_samples(1), source='random', greedy_protected=(0, 1, 4)
    )
    assert set(profile.greedy_removals([4, 1, 0])) == {2, 3}
    with pytest.raises(ProfileError, match=r'with layers \[0, 1, 4\] protected, expected \[0\]'):
        profile.greedy_removals([0])
    with pytest.raises(ProfileError, match='calibrate with --greedy'):
        small_profile().greedy_removals([0])


def test_fingerprints_of_equal_models_are_equal():
    first, second = fingerprint(small_policy()), fingerprint(small_policy())
    assert first == second == Fingerprint.from_json(first.to_json())
    assert not first.fits(fingerprint(small_policy(seed=1)))
    assert len(first.short) == 12
