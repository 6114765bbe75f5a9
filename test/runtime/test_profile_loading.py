"""Which profile an engine gets, and models of which only the kept parts are loaded."""

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from checkpoint_writers import MINI_COGACT, MINI_OPENVLA, write_cogact, write_openvla
from naive_plans import observation, profile_of

from efficientvla_ros.acceleration.config import AccelerationConfig
from efficientvla_ros.acceleration.profile import PROFILE_FILE, save_profile
from efficientvla_ros.models.placement import weight_bytes
from efficientvla_ros.runtime.engine import Engine, load_engine
from efficientvla_ros.runtime.load_options import WEIGHTS_FOLDER
from efficientvla_ros.types import InputError

SETTINGS = AccelerationConfig(layers=8, mlp_ratio=0.25, tokens=14, cache_interval=5)
TEXT = 'pick the red can'


@pytest.fixture(scope='module')
def tabletop(tmp_path_factory) -> Path:
    """The embedded checkpoint without any profile."""
    folder = tmp_path_factory.mktemp('weights') / 'tabletop-pick'
    ignore = shutil.ignore_patterns(PROFILE_FILE)
    return Path(shutil.copytree(WEIGHTS_FOLDER / 'tabletop-pick', folder, ignore=ignore))


@pytest.fixture(scope='module')
def profile(tabletop):
    return profile_of(load(tabletop).model)


@pytest.fixture(scope='module')
def stored(profile, tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp('profile') / 'measured.safetensors'
    save_profile(profile, path)
    return path


def load(model, **options) -> Engine:
    return load_engine(str(model), threads=1, **options)


def actions(engine: Engine) -> np.ndarray:
    return engine.infer(observation(TEXT))[0].actions


def bytes_in_memory(engine: Engine) -> int:
    parts = [p for p in engine.model.parameters() if not p.is_meta]
    return sum(part.numel() * part.element_size() for part in parts)


def test_without_a_profile_what_needs_one_stays_off_and_says_so(tabletop):
    engine = load(tabletop, acceleration=SETTINGS)
    assert engine.profile is None and len(engine.plan.notes) == 2
    _, report = engine.infer(observation(TEXT))
    assert (report.layers_run, report.visual_tokens, report.diffusion_steps) == (12, 14, 2)


def test_a_profile_is_given_as_a_file_or_as_it_is(tabletop, profile, stored):
    for given in (stored, str(stored), profile):
        engine = load(tabletop, acceleration=SETTINGS, profile=given)
        assert len(engine.plan.layers) == 8 and engine.plan.notes == ()


def test_the_profile_beside_the_weights_is_found(tabletop, stored, tmp_path):
    folder = Path(shutil.copytree(tabletop, tmp_path / 'with'))
    shutil.copy(stored, folder / PROFILE_FILE)
    engine = load(folder, acceleration='efficientvla')
    assert engine.profile is not None and len(engine.plan.layers) == 8


def test_a_found_profile_that_does_not_fit_is_left_out_with_a_note(tabletop, stored, tmp_path):
    folder = Path(shutil.copytree(tabletop, tmp_path / 'with'))
    (folder / PROFILE_FILE).write_bytes(b'no profile')
    engine = load(folder, acceleration='layers')
    assert engine.profile is None and 'is damaged' in engine.plan.notes[0]
    shutil.copy(stored, folder / PROFILE_FILE)
    weights = folder / 'model.safetensors'
    changed = load(folder).model
    changed.llm_backbone.llm.model.norm.weight.mul_(2.0)
    _write_weights(changed, weights)
    engine = load(folder, acceleration='layers')
    assert engine.profile is None and 'is of another model' in engine.plan.notes[0]
    with pytest.raises(InputError, match='is of another model'):
        load(folder, acceleration='layers', profile=stored)
    with pytest.raises(InputError, match='is of another model'):
        load(folder, acceleration='layers', only_kept_layers=True)


def _write_weights(model, path: Path) -> None:
    from safetensors.torch import save_file

    save_file({name: value.contiguous() for name, value in model.state_dict().items()}, path)


def test_a_given_profile_that_cannot_be_used_is_one_clear_line(tabletop, tmp_path):
    for path, message in (
        (tmp_path / 'none.safetensors', 'does not exist, expected a calibration profile'),
        (tabletop / 'model.safetensors', 'not a calibration profile'),
    ):
        with pytest.raises(InputError, match=message) as error:
            load(tabletop, profile=path)
        assert '\n' not in str(error.value) and str(path) in str(error.value)


def test_random_weights_take_no_profile_by_themselves(tabletop, stored, tmp_path):
    folder = Path(shutil.copytree(tabletop, tmp_path / 'with'))
    shutil.copy(stored, folder / PROFILE_FILE)
    engine = load(folder, acceleration='layers', random_weights=True)
    assert engine.profile is None and 'random weights' in engine.plan.notes[0]


def test_layers_that_are_left_out_take_no_memory(tabletop, profile):
    whole = load(tabletop, acceleration=SETTINGS, profile=profile)
    lean = load(tabletop, acceleration=SETTINGS, profile=profile, only_kept_layers=True)
    assert np.array_equal(actions(lean), actions(whole))
    layers = lean.model.llm_backbone.llm.model.layers
    for index, layer in enumerate(layers):
        empty = {p.is_meta for p in layer.self_attn.parameters()}
        assert empty == {index not in lean.plan.layers}
        # Of kept layers only the narrow copies of the MLPs are left.
        assert all(p.is_meta for p in layer.mlp.parameters())
    kept = weight_bytes(whole.model, torch.float32, lean.plan.layers)
    mlps = sum(p.numel() * 4 for i in lean.plan.layers for p in layers[i].mlp.parameters())
    assert bytes_in_memory(lean) == kept - mlps < bytes_in_memory(whole)


def test_progress_ends_at_the_bytes_of_what_is_loaded(tabletop, profile):
    seen = []
    options = {'profile': profile, 'only_kept_layers': True}
    engine = load(
        tabletop, acceleration='layers', progress=lambda *now: seen.append(now), **options
    )
    expected = weight_bytes(engine.model, torch.float32, engine.plan.layers)
    assert seen[-1] == (expected, expected)


def test_plans_that_need_what_was_left_out_are_refused(tabletop, profile):
    engine = load(tabletop, acceleration=SETTINGS, profile=profile, only_kept_layers=True)
    before, plan = actions(engine), engine.plan
    for other in ('dense', 'efficientvla_light', AccelerationConfig(layers=8)):
        with pytest.raises(InputError, match='left out when the model was loaded') as error:
            engine.set_acceleration(other)
        assert '\n' not in str(error.value)
    with pytest.raises(InputError, match='left out when the model was loaded'):
        engine.profile = profile
    assert engine.plan is plan and np.array_equal(actions(engine), before)
    fewer = AccelerationConfig(layers=6, mlp_ratio=0.25, tokens=9)
    assert len(engine.set_acceleration(fewer).layers) == 6
    assert engine.infer(observation(TEXT))[1].layers_run == 6


def test_with_nothing_to_leave_out_everything_is_loaded(tabletop, profile):
    engine = load(tabletop, acceleration='tokens', profile=profile, only_kept_layers=True)
    assert not any(p.is_meta for p in engine.model.parameters())
    assert len(engine.set_acceleration('layers').layers) == 8


@pytest.mark.parametrize(
    ('write', 'config'), [(write_cogact, MINI_COGACT), (write_openvla, MINI_OPENVLA)]
)
def test_released_layouts_load_only_the_layers_that_run(write, config, tmp_path):
    folder = tmp_path / 'released'
    config = replace(config, llm=replace(config.llm, layers=4))
    write(folder, config, keys=('bridge_orig',))
    whole = load(folder)
    profile = profile_of(whole.model)
    settings = AccelerationConfig(layers=3, scoring_layer=0)
    expected = load(folder, acceleration=settings, profile=profile)
    lean = load(folder, acceleration=settings, profile=profile, only_kept_layers=True)
    assert np.array_equal(actions(lean), actions(expected))
    assert bytes_in_memory(lean) < bytes_in_memory(whole)


def test_a_profile_of_another_depth_is_named(tabletop, tmp_path):
    write_cogact(tmp_path / 'released', keys=('bridge_orig',))
    profile = profile_of(load(tmp_path / 'released').model)
    assert profile.layers == MINI_COGACT.llm.layers
    with pytest.raises(InputError, match=f'is of {profile.layers} layers, expected the 12'):
        load(tabletop, acceleration='layers', profile=profile, only_kept_layers=True)


def test_random_weights_of_kept_layers_are_those_of_the_whole_model():
    engine = load_engine('cogact-mini', threads=1, random_weights=True)
    measured = profile_of(engine.model)
    lean = load_engine(
        'cogact-mini',
        threads=1,
        random_weights=True,
        acceleration='layers',
        profile=measured,
        only_kept_layers=True,
    )
    assert len(lean.plan.layers) == 17
    engine.profile = measured
    engine.set_acceleration('layers')
    assert np.array_equal(actions(lean), actions(engine))
    assert bytes_in_memory(lean) < 0.8 * bytes_in_memory(engine)
