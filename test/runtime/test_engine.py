"""The engine: observation in, chunk and report out; what it cannot take is refused clearly."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from efficientvla_ros.runtime.engine import Engine, load_engine
from efficientvla_ros.runtime.load_options import WEIGHTS_FOLDER
from efficientvla_ros.types import InputError, Observation


@pytest.fixture(scope='module')
def engine() -> Engine:
    return load_engine('tabletop-pick', threads=1, random_weights=True)


def observation(instruction: str = 'pick the red can', seed: int = 0, **images) -> Observation:
    rng = np.random.default_rng(seed)
    pictures = images or {'camera': rng.integers(0, 255, (224, 224, 3)).astype(np.uint8)}
    return Observation(pictures, instruction, stamp_ns=5_000_000_000)


def test_a_chunk_carries_the_stamp_and_instruction_of_its_observation(engine):
    chunk, report = engine.infer(observation())
    assert chunk.actions.shape == (engine.horizon, 7) and chunk.actions.dtype == np.float64
    assert chunk.stamp_ns == 5_000_000_000 and chunk.instruction == 'pick the red can'
    assert chunk.step_duration == engine.step_duration
    assert list(report.stage_seconds) == [
        'preprocess',
        'vision',
        'language',
        'action_head',
        'postprocess',
    ]
    assert report.total_seconds == pytest.approx(sum(report.stage_seconds.values()))
    assert (report.visual_tokens, report.layers_run, report.diffusion_steps) == (64, 12, 10)


def test_the_same_observation_gives_the_same_plan_and_sequences_count_up(engine):
    first, _ = engine.infer(observation())
    second, _ = engine.infer(observation())
    assert np.array_equal(first.actions, second.actions)
    assert second.sequence == first.sequence + 1


@pytest.mark.parametrize('temperature', [0.0, 0.5])
def test_sampling_starts_from_noise_of_the_head_s_temperature(temperature, tmp_path):
    folder = Path(shutil.copytree(WEIGHTS_FOLDER / 'tabletop-pick', tmp_path / 'tabletop-pick'))
    path = folder / 'config.json'
    description = json.loads(path.read_text())
    description['model']['head']['temperature'] = temperature
    path.write_text(json.dumps(description))
    warm, cool = (load_engine(str(name), threads=1) for name in ('tabletop-pick', folder))
    assert torch.equal(cool.noise, temperature * warm.noise)
    plans = [engine.infer(observation())[0].actions for engine in (warm, cool)]
    assert not np.array_equal(*plans)


def test_the_gripper_is_zero_or_one(engine):
    chunk, _ = engine.infer(observation())
    assert set(np.unique(chunk.actions[:, 6])) <= {0.0, 1.0}


def test_a_single_camera_is_taken_whatever_its_name(engine):
    picture = observation().images['camera']
    named, _ = engine.infer(observation(camera=picture))
    other, _ = engine.infer(observation(wrist=picture))
    assert np.array_equal(named.actions, other.actions)


def test_a_missing_camera_is_named(engine):
    picture = observation().images['camera']
    with pytest.raises(InputError, match=r"wants camera 'camera'.*\['left', 'right'\]"):
        engine.infer(observation(left=picture, right=picture))


@pytest.mark.parametrize(
    'picture',
    [
        np.zeros((0, 10, 3), np.uint8),
        np.zeros((10, 10), np.uint8),
        np.zeros((10, 10, 4), np.uint8),
        np.zeros((10, 10, 3), np.float32),
    ],
)
def test_an_image_of_the_wrong_kind_is_refused(engine, picture):
    with pytest.raises(InputError, match=r'expected uint8 \(height, width, 3\)'):
        engine.infer(observation(camera=picture))


@pytest.mark.parametrize('text', ['', '   \n'])
def test_an_empty_instruction_is_refused(engine, text):
    with pytest.raises(InputError, match='instruction is empty'):
        engine.check_instruction(text)


def test_a_word_the_model_never_saw_is_named_and_long_texts_are_shortened(engine):
    with pytest.raises(InputError, match="'banana'"):
        engine.check_instruction('pick the banana')
    with pytest.raises(InputError) as error:
        engine.check_instruction('banana ' * 2000)
    assert len(str(error.value)) < 400


def test_more_tokens_than_positions_are_refused(engine):
    with pytest.raises(InputError, match='takes at most'):
        engine.check_instruction('pick ' * 2000)


def test_ten_thousand_instructions_do_not_pile_up(engine):
    words = ('pick', 'the', 'red', 'green', 'blue', 'can', 'orange')
    for i in range(7**4):
        engine.check_instruction(' '.join(words[i // 7**k % 7] for k in range(4)))
    assert len(engine.prompt) <= 64


@pytest.mark.parametrize(
    ('options', 'message'),
    [
        ({'model': 'no/such/folder'}, 'neither an embedded model'),
        ({'model': ''}, 'neither an embedded model'),
        ({'device': 'toaster'}, "device 'toaster' is unknown"),
        ({'device': 'mps'}, 'expected cpu, cuda'),
        ({'num_ddim_steps': 11}, 'expected one of 1, 2'),
        ({'num_ddim_steps': 0}, 'expected one of 1, 2'),
        ({'dtype': 'float16'}, "dtype 'float16' is unknown, expected auto, float32 or bfloat16"),
        ({'model': 'cogact-base', 'random_weights': False}, 'give the folder of the released'),
        ({'model': 'cogact-base', 'unnorm_key': 'bridge_orig'}, 'unnorm_key needs a checkpoint'),
        ({'model': 'cogact-base', 'use_ema': True}, 'use_ema needs a checkpoint'),
        ({'model': 'openvla-7b', 'guidance': 1.5}, 'openvla-7b has no diffusion head'),
    ],
)
def test_options_that_do_not_fit_are_one_clear_line(options, message):
    with pytest.raises(InputError, match=message) as error:
        load_engine(**{'random_weights': True, **options})
    assert '\n' not in str(error.value)


@pytest.mark.skipif(torch.cuda.is_available(), reason='this machine has CUDA')
def test_cuda_without_a_device_is_said():
    with pytest.raises(InputError, match='sees no CUDA device'):
        load_engine('tabletop-pick', device='cuda', random_weights=True)


def test_numbers_of_half_the_size_are_an_option():
    engine = load_engine('tabletop-pick', threads=1, dtype='bfloat16')
    exact = load_engine('tabletop-pick', threads=1)
    assert (engine.dtype, exact.dtype) == (torch.bfloat16, torch.float32)
    first, second = (e.infer(observation())[0].actions for e in (engine, exact))
    assert np.abs(first - second).max() > 0 and np.isfinite(first).all()


def test_prompts_are_counted_without_visual_tokens(engine):
    ids = engine.prompt_ids('pick the red can')
    assert ids.dtype == torch.int64 and ids[0, 0] == 1 and ids[0, -1] == 2
    assert engine.prompt_length('pick the red can') == ids.shape[1] == 6


def test_guidance_and_steps_are_options():
    engine = load_engine(
        'tabletop-pick', threads=1, num_ddim_steps=5, guidance=1.0, random_weights=True
    )
    _, report = engine.infer(observation())
    assert report.diffusion_steps == 5
