"""Files in the released layouts, through `load_engine`, give the published computation's actions.

The other side is float64 and reads the same tensors without any class of the package.
"""

import numpy as np
import pytest
import torch
from checkpoint_writers import MINI_COGACT, MINI_OPENVLA, statistics, write_cogact, write_openvla
from naive_policies import cogact_actions, openvla_actions, unnormalise
from tokenizer_writer import INSTRUCTION, INSTRUCTION_IDS, PROMPT_HEAD, PROMPT_TAIL

from efficientvla_ros.runtime.engine import load_engine
from efficientvla_ros.types import InputError, Observation

PROMPT = [*PROMPT_HEAD, *INSTRUCTION_IDS, *PROMPT_TAIL]


@pytest.fixture(scope='module')
def cogact(tmp_path_factory):
    folder = tmp_path_factory.mktemp('checkpoints') / 'CogACT-Mini'
    return folder, write_cogact(folder, ema=True)


@pytest.fixture(scope='module')
def openvla(tmp_path_factory):
    folder = tmp_path_factory.mktemp('checkpoints') / 'openvla-mini'
    return folder, write_openvla(folder, shards=3)


def camera_image(height: int, width: int) -> np.ndarray:
    coarse = np.random.default_rng(4).uniform(0, 1, (1, 3, 6, 8))
    smooth = torch.nn.functional.interpolate(torch.tensor(coarse), (height, width), mode='bicubic')
    return (smooth.clamp(0, 1)[0].permute(1, 2, 0) * 255).round().byte().numpy()


def observe(image: np.ndarray) -> Observation:
    return Observation({'camera': image}, INSTRUCTION, None, 0)


@pytest.mark.parametrize('size', [(56, 56), (96, 128)])
@pytest.mark.parametrize('key', ['bridge_orig', 'fractal20220817_data'])
def test_a_cogact_folder_from_image_to_physical_actions(cogact, key, size):
    folder, groups = cogact
    engine = load_engine(str(folder), unnorm_key=key)
    assert engine.prompt_ids(INSTRUCTION).tolist() == [[*PROMPT, 29871, 2]]
    image = camera_image(*size)
    chunk, _ = engine.infer(observe(image))
    noise = engine.noise[0].numpy()
    normalised = cogact_actions(groups, MINI_COGACT, image, [*PROMPT, 29871, 2], noise)
    expected = unnormalise(normalised, statistics()[key]['action'], binarise=True)
    assert (np.abs(normalised) < 1).sum() > 5  # not everything is clipped
    np.testing.assert_allclose(chunk.actions, expected, rtol=1e-5, atol=1e-6)
    assert chunk.step_duration == pytest.approx({'bridge_orig': 1 / 5}.get(key, 1 / 3))


def test_the_path_of_the_pt_file_means_the_same(cogact):
    folder, _ = cogact
    path = folder / 'checkpoints' / 'CogACT-Mini.pt'
    image = camera_image(56, 56)
    chunks = [
        load_engine(str(place), unnorm_key='bridge_orig').infer(observe(image))[0]
        for place in (folder, path)
    ]
    assert np.array_equal(chunks[0].actions, chunks[1].actions)


def test_the_averaged_head_is_taken_when_asked_for(cogact):
    folder, groups = cogact
    engine = load_engine(str(folder), unnorm_key='bridge_orig', use_ema=True)
    image = camera_image(56, 56)
    chunk, _ = engine.infer(observe(image))
    arguments = (groups, MINI_COGACT, image, [*PROMPT, 29871, 2], engine.noise[0].numpy())
    entry = statistics()['bridge_orig']['action']
    averaged = unnormalise(cogact_actions(*arguments, 'ema_diffusion'), entry, binarise=True)
    plain = unnormalise(cogact_actions(*arguments), entry, binarise=True)
    np.testing.assert_allclose(chunk.actions, averaged, rtol=1e-5, atol=1e-6)
    assert np.abs(averaged - plain).max() > 0.01


@pytest.mark.parametrize('size', [(56, 56), (96, 128)])
def test_an_openvla_folder_from_image_to_physical_action(openvla, size):
    folder, groups = openvla
    engine = load_engine(str(folder), unnorm_key='bridge_orig', dtype='float32')
    assert engine.prompt_ids(INSTRUCTION).tolist() == [[*PROMPT, 29871]]
    image = camera_image(*size)
    chunk, _ = engine.infer(observe(image))
    normalised = openvla_actions(groups, MINI_OPENVLA, image, [*PROMPT, 29871])
    expected = unnormalise(normalised[None], statistics()['bridge_orig']['action'], binarise=False)
    assert len(set(normalised)) > 3  # not all tokens are the same
    np.testing.assert_allclose(chunk.actions, expected, rtol=0, atol=1e-12)
    assert chunk.actions[0, 6] not in (0.0, 1.0)  # the gripper is not thresholded


def test_weights_in_bfloat16_keep_the_head_in_float32(cogact):
    folder, _ = cogact
    engine = load_engine(str(folder), unnorm_key='bridge_orig', dtype='bfloat16')
    types = {name.split('.')[0]: p.dtype for name, p in engine.model.named_parameters()}
    assert types.pop('action_model') == torch.float32
    assert set(types.values()) == {torch.bfloat16}
    assert np.isfinite(engine.infer(observe(camera_image(56, 56)))[0].actions).all()


def test_no_code_of_the_folder_is_run(openvla):
    # The folder holds a Python file that its configuration names and that ends the process.
    folder, _ = openvla
    assert (folder / 'configuration_prismatic.py').is_file()
    load_engine(str(folder), unnorm_key='bridge_orig')


def test_progress_counts_up_to_all_bytes(cogact):
    folder, _ = cogact
    calls = []
    engine = load_engine(
        str(folder), unnorm_key='bridge_orig', progress=lambda *counts: calls.append(counts)
    )
    done = [count for count, _ in calls]
    held = sum(p.numel() * p.element_size() for p in engine.model.parameters())
    assert done == sorted(done) and calls[-1] == (held, held)


def test_faults_of_a_checkpoint_reach_the_user_as_input_errors(cogact):
    folder, _ = cogact
    with pytest.raises(InputError, match='bridge_orig, fractal20220817_data'):
        load_engine(str(folder))
    with pytest.raises(InputError, match='bridge_orig, fractal20220817_data'):
        load_engine(str(folder), unnorm_key='libero')


def test_a_checkpoint_may_lend_its_sizes_to_random_weights(cogact):
    folder, _ = cogact
    first, second = (
        load_engine(str(folder), unnorm_key='bridge_orig', random_weights=True, seed=seed)
        .infer(observe(camera_image(56, 56)))[0]
        .actions
        for seed in (3, 3)
    )
    assert np.array_equal(first, second)
