"""Both kinds of policy behind one engine, and what a tick no longer computes."""

import numpy as np
import pytest
import torch
from small_models import small_config, tiny_openvla

from efficientvla_ros.models.checkpoint import Checkpoint
from efficientvla_ros.models.cogact import CogACT
from efficientvla_ros.models.images import to_input
from efficientvla_ros.models.openvla import action_values
from efficientvla_ros.models.prismatic import PrismaticVLM
from efficientvla_ros.models.random_weights import init_weights
from efficientvla_ros.models.reference import reference_cognition, reference_sample
from efficientvla_ros.models.statistics import ActionStatistics
from efficientvla_ros.runtime.engine import Engine
from efficientvla_ros.types import InputError, Observation

Q01, Q99 = np.linspace(-2.0, -1.0, 7), np.linspace(1.0, 3.0, 7)
MASK = np.array([True] * 6 + [False])


class Words:
    """One id a word: its length."""

    def encode(self, text: str) -> list[int]:
        return [1, *(4 + len(word) for word in text.split())]


def engine_for(model: PrismaticVLM, **options) -> Engine:
    statistics = ActionStatistics(Q01, Q99, MASK)
    return Engine(Checkpoint(model, Words(), statistics, 0.25, 'somewhere'), **options)


def small_cogact() -> CogACT:
    return init_weights(CogACT(small_config()), seed=1).eval().requires_grad_(False)


def observation(instruction: str = 'pick the can', seed: int = 0) -> Observation:
    image = np.random.default_rng(seed).integers(0, 255, (80, 60, 3)).astype(np.uint8)
    return Observation({'camera': image}, instruction, stamp_ns=7)


def physical(normalised: np.ndarray) -> np.ndarray:
    return np.where(MASK, (normalised + 1.0) / 2.0 * (Q99 - Q01) + Q01, normalised)


def seen_by(module: torch.nn.Module) -> list[tuple[int, ...]]:
    shapes: list[tuple[int, ...]] = []
    module.register_forward_hook(lambda _, inputs, __: shapes.append(tuple(inputs[0].shape)))
    return shapes


def test_a_chunk_of_the_diffusion_policy_is_that_of_the_plain_path():
    model = small_cogact()
    engine = engine_for(model, num_ddim_steps=5, guidance=2.0, seed=3)
    look = observation()
    chunk, report = engine.infer(look)
    image = to_input(look.images['camera'], engine.image_size)
    ids = engine.prompt_ids(look.instruction)
    cognition = reference_cognition(model, model.visual_tokens(image), ids)
    sample = reference_sample(model, cognition, engine.noise, steps=5, guidance=2.0)
    normalised = sample[0].double().numpy().clip(-1.0, 1.0)
    normalised[:, 6] = normalised[:, 6] >= 0.5
    assert np.allclose(chunk.actions, physical(normalised), atol=1e-5)
    assert chunk.actions.dtype == np.float64 and chunk.step_duration == 0.25
    assert (report.diffusion_steps, engine.num_ddim_steps, engine.guidance) == (5, 5, 2.0)


def test_a_chunk_of_the_token_policy_is_one_action_whose_gripper_is_left_as_it_is():
    model = tiny_openvla()
    engine = engine_for(model)
    look = observation()
    chunk, report = engine.infer(look)
    image = to_input(look.images['camera'], engine.image_size)
    tokens = model(image, engine.prompt_ids(look.instruction))
    expected = physical(action_values(tokens.numpy(), model.config))
    assert chunk.actions.shape == (1, 7) and np.allclose(chunk.actions, expected, atol=1e-12)
    assert chunk.actions[0, 6] not in (0.0, 1.0)
    stages = ['preprocess', 'vision', 'language', 'action_head', 'postprocess']
    assert list(report.stage_seconds) == stages
    assert (engine.horizon, report.diffusion_steps, engine.num_ddim_steps) == (1, 0, 0)
    assert engine.guidance is None and engine.noise is None


@pytest.mark.parametrize('options', [{'num_ddim_steps': 10}, {'guidance': 1.5}])
def test_options_of_a_diffusion_head_are_refused_without_one(options):
    with pytest.raises(InputError, match='model tiny has no diffusion head'):
        engine_for(tiny_openvla(), **options)


def test_prompts_of_any_length_that_fits_share_the_cache():
    engine = engine_for(tiny_openvla())
    texts = ['pick', 'pick ' * 20, 'pick it', 'pick ' * 12]
    first = [engine.infer(observation(text))[0].actions for text in texts]
    again = [engine.infer(observation(text))[0].actions for text in texts]
    assert all(np.array_equal(a, b) for a, b in zip(first, again))
    # Prompt, patches and the tokens that are fed back must have positions.
    room = 64 - 16 - 6
    fixed = engine.prompt_length('pick') - 1
    engine.check_instruction('pick ' * (room - fixed))
    with pytest.raises(InputError, match=f'{room + 1} tokens, model tiny takes at most {room}'):
        engine.check_instruction('pick ' * (room - fixed + 1))


def test_a_long_prompt_makes_the_cache_larger_once(monkeypatch):
    model = tiny_openvla()
    monkeypatch.setattr('efficientvla_ros.runtime.policies._PROMPT_STEP', 16)
    engine = engine_for(model)
    made = []
    new_cache = model.new_cache
    monkeypatch.setattr(
        model, 'new_cache', lambda length: made.append(length) or new_cache(length)
    )
    for words in (1, 20, 1, 20, 22, 1, 22):
        engine.infer(observation('pick ' * words))
    assert made == [32, 48]


def test_a_tick_embeds_no_time_and_no_empty_condition():
    model = small_cogact()
    engine = engine_for(model)
    times = seen_by(model.action_model.net.t_embedder)
    conditions = seen_by(model.action_model.net.z_embedder)
    engine.infer(observation())
    assert times == [] and conditions == [(1, 64)]


def test_only_the_last_position_passes_the_end_of_the_decoder():
    model = small_cogact()
    engine = engine_for(model)
    layers = model.llm_backbone.llm.model.layers
    first, last, keys = (
        seen_by(module) for module in (layers[0].mlp, layers[-1].mlp, layers[-1].self_attn.k_proj)
    )
    engine.infer(observation())
    length = 16 + engine.prompt_length('pick the can')
    assert (first, last, keys) == ([(1, length, 64)], [(1, 1, 64)], [(1, length, 64)])


@pytest.mark.parametrize('make', [small_cogact, tiny_openvla])
def test_the_vision_language_model_may_be_bfloat16(make):
    model = make()
    head = model.action_model if isinstance(model, CogACT) else None
    for part in (model.vision_backbone, model.projector, model.llm_backbone):
        for parameter in part.parameters():
            parameter.data = parameter.data.bfloat16()
    engine = engine_for(model)
    assert engine.dtype == torch.bfloat16
    chunk, _ = engine.infer(observation())
    assert np.isfinite(chunk.actions).all()
    if head is not None:
        exact, _ = engine_for(small_cogact()).infer(observation())
        assert np.abs(chunk.actions - exact.actions)[:, :6].max() < 0.2
        assert {p.dtype for p in head.parameters()} == {torch.float32}
