"""Plans give the numbers of their plain description; what is off changes no bit."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from naive_plans import (
    PATCHES,
    deep_cogact,
    deep_openvla,
    engine_for,
    naive_hidden,
    observation,
    profile_of,
)
from torch.utils._python_dispatch import TorchDispatchMode

from efficientvla_ros.acceleration.config import AccelerationConfig
from efficientvla_ros.acceleration.plan import build_plan
from efficientvla_ros.acceleration.token_options import TokenOptions
from efficientvla_ros.acceleration.token_scores import relevance
from efficientvla_ros.acceleration.token_selection import select_tokens
from efficientvla_ros.models.images import to_input
from efficientvla_ros.models.openvla import action_values
from efficientvla_ros.runtime.decoder import NarrowLayers, PlannedDecoder
from efficientvla_ros.runtime.engine import load_engine
from efficientvla_ros.runtime.stopwatch import Stopwatch
from efficientvla_ros.types import Observation

ROWS = {
    'dense': {},
    'layers': {'layers': 5},
    'mlp': {'mlp_ratio': 0.25},
    'tokens': {'tokens': 5},
    'fastv': {'tokens': 5, 'tokens_method': 'fastv'},
    'random': {'tokens': 5, 'tokens_method': 'random'},
    'later': {'tokens': 5, 'scoring_layer': 4, 'tokens_rows': 'prompt'},
    'all': {'layers': 5, 'mlp_ratio': 0.25, 'tokens': 5},
}


@pytest.fixture(scope='module')
def cogact():
    return deep_cogact()


@pytest.fixture(scope='module')
def openvla():
    return deep_openvla()


def normalised(engine, look: Observation) -> np.ndarray:
    with torch.inference_mode():
        pixels = to_input(look.images['camera'], engine.image_size)
        watch = Stopwatch(engine.device)
        return engine.policy.run(pixels, engine.prompt(look.instruction), watch)


def embedded(engine, look: Observation) -> torch.Tensor:
    pixels = to_input(look.images['camera'], engine.image_size)
    visual = engine.model.visual_tokens(pixels)
    return engine.model.input_embeddings(visual, engine.prompt_ids(look.instruction))


def kept_by(engine, look: Observation) -> np.ndarray | None:
    engine.report_tokens = True
    return engine.infer(look)[1].kept_tokens


@pytest.mark.parametrize('name', ['tabletop-pick', 'cogact-mini'])
def test_with_everything_off_actions_are_those_of_the_model_bit_for_bit(name):
    engine = load_engine(name, threads=1, random_weights=True)
    model, look = engine.model, observation('pick the red can')
    pixels = to_input(look.images['camera'], engine.image_size)
    with torch.inference_mode():
        expected = model(pixels, engine.prompt_ids(look.instruction), engine.noise)[0]
    for acceleration in ('dense', AccelerationConfig(), AccelerationConfig(cache_interval=1)):
        engine.set_acceleration(acceleration)
        assert np.array_equal(normalised(engine, look), expected.double().numpy())
    engine.set_acceleration('efficientvla')
    assert not np.array_equal(normalised(engine, look), expected.double().numpy())
    engine.set_acceleration('dense')
    assert np.array_equal(normalised(engine, look), expected.double().numpy())


def test_with_everything_off_tokens_are_those_of_the_model(openvla):
    engine, look = engine_for(openvla), observation()
    image = to_input(look.images['camera'], engine.image_size)
    tokens = openvla(image, engine.prompt_ids(look.instruction)).numpy()
    assert np.array_equal(normalised(engine, look), action_values(tokens, openvla.config))


@pytest.mark.parametrize('row', ROWS)
def test_a_diffusion_policy_runs_what_its_plan_says(cogact, row):
    profile = profile_of(cogact)
    engine = engine_for(cogact, profile=profile)
    plan = engine.set_acceleration(AccelerationConfig(**ROWS[row]))
    look = observation()
    kept = kept_by(engine, look)
    assert (kept is None) == ('tokens' not in ROWS[row])
    hidden = naive_hidden(cogact, embedded(engine, look), plan, kept, profile)
    expected = cogact.sampler()(hidden[:, -1], engine.noise)[0]
    engine.policy.reset()
    found = normalised(engine, look)
    assert np.abs(found - expected.numpy()).max() <= 1e-5
    _, report = engine.infer(look)
    tokens = ROWS[row].get('tokens', PATCHES)
    assert (report.visual_tokens, report.layers_run) == (tokens, ROWS[row].get('layers', 7))


@pytest.mark.parametrize('row', ROWS)
def test_a_token_policy_runs_what_its_plan_says(openvla, row):
    profile = profile_of(openvla)
    engine = engine_for(openvla, profile=profile)
    plan = engine.set_acceleration(AccelerationConfig(**ROWS[row]))
    look = observation()
    kept = kept_by(engine, look)
    llm, ids, x = openvla.llm_backbone.llm, [], embedded(engine, look)
    for _ in range(openvla.config.action_dim):
        hidden = naive_hidden(openvla, x, plan, kept, profile)
        ids.append(int(llm.lm_head(hidden[:, -1]).argmax()))
        x = torch.cat((x, llm.model.embed_tokens(torch.tensor([[ids[-1]]]))), dim=1)
    engine.policy.reset()
    expected = action_values(np.array([ids]), openvla.config)
    assert np.array_equal(normalised(engine, look), expected)


@pytest.mark.parametrize('model', ['cogact', 'openvla'])
def test_keeping_every_token_of_every_layer_is_dense(model, request):
    # Built by hand: `build_plan` switches a selection off that keeps everything.
    model = request.getfixturevalue(model)
    dense = build_plan(model.config, AccelerationConfig(), None)
    plan = replace(dense, tokens=TokenOptions(PATCHES))
    narrow = NarrowLayers(model.llm_backbone.llm.model, None)
    engine, look = engine_for(model), observation()
    prompt, x = engine.prompt(look.instruction), embedded(engine, look)
    expected = PlannedDecoder(model, dense, narrow).prompt(x, prompt)
    decoder = PlannedDecoder(model, plan, narrow)
    assert torch.equal(decoder.prompt(x, prompt), expected)
    assert decoder.selection.kept.tolist() == [list(range(PATCHES))]


@pytest.mark.parametrize('rows', ['instruction', 'prompt', 'last'])
def test_the_tokens_kept_are_those_selected_after_the_scoring_layer(cogact, rows):
    engine, look = engine_for(cogact), observation('move the green can to the left')
    engine.set_acceleration(AccelerationConfig(tokens=6, tokens_key=2, tokens_rows=rows))
    kept = kept_by(engine, look)
    decoder, x = cogact.llm_backbone.llm.model, embedded(engine, look)
    rope = decoder.rotary(torch.arange(x.shape[1]), x.dtype)
    for layer in decoder.layers[:2]:
        x = layer(x, rope)
    # BOS, seven words of the instruction, the cognition token.
    marked = {'instruction': slice(0, 7), 'prompt': slice(0, 8), 'last': slice(7, 8)}[rows]
    mask = torch.zeros(1, 8, dtype=torch.bool)
    mask[:, marked] = True
    scores = relevance(decoder.layers[2], x, rope, mask)
    hidden = decoder.layers[2](x, rope)[:, 1 : 1 + PATCHES]
    expected = select_tokens(scores, hidden, keep=6, key=2)
    assert kept.tolist() == expected.kept[0].tolist()
    _, report = engine.infer(look)
    assert report.token_roles.tolist() == expected.role[0].tolist()


def test_kept_tokens_are_reported_only_when_asked_for(cogact):
    engine = engine_for(cogact, acceleration=AccelerationConfig(tokens=5))
    _, report = engine.infer(observation())
    assert report.kept_tokens is None and report.token_roles is None
    engine.report_tokens = True
    _, report = engine.infer(observation())
    assert report.kept_tokens.shape == report.token_roles.shape == (5,)
    engine.set_acceleration('dense')
    assert engine.infer(observation())[1].kept_tokens is None


@pytest.mark.parametrize(('interval', 'full'), [(5, 2), (2, 5), (10, 1)])
def test_reused_sampling_steps_are_not_counted(cogact, interval, full):
    engine = engine_for(cogact, acceleration=AccelerationConfig(cache_interval=interval))
    chunk, report = engine.infer(observation())
    again, _ = engine.infer(observation())
    assert report.diffusion_steps == full and np.array_equal(chunk.actions, again.actions)


def test_a_threshold_adds_full_steps(cogact):
    settings = AccelerationConfig(cache_interval=5, cache_threshold=1e-9)
    engine = engine_for(cogact, acceleration=settings)
    _, report = engine.infer(observation())
    assert report.diffusion_steps == 10


def test_long_prompts_after_short_ones_have_room_with_fewer_tokens(openvla):
    engine = engine_for(openvla, acceleration=AccelerationConfig(tokens=5))
    texts = ['pick', 'pick ' * 20, 'pick it', 'pick ' * 12]
    first = [engine.infer(observation(text))[0].actions for text in texts]
    again = [engine.infer(observation(text))[0].actions for text in texts]
    assert all(np.array_equal(a, b) for a, b in zip(first, again))


@pytest.mark.parametrize('make', [deep_cogact, deep_openvla])
def test_plans_run_in_bfloat16(make):
    model = make()
    for part in (model.vision_backbone, model.projector, model.llm_backbone):
        for parameter in part.parameters():
            parameter.data = parameter.data.bfloat16()
    engine = engine_for(model, profile=profile_of(model))
    engine.set_acceleration(AccelerationConfig(**ROWS['all'], cache_interval=5))
    chunk, report = engine.infer(observation())
    assert np.isfinite(chunk.actions).all() and report.layers_run == 5


class NoHostReads(TorchDispatchMode):
    """Refuses operations that read values on the host or whose shapes depend on values."""

    forbidden = ('item', '_local_scalar_dense', 'nonzero', 'masked_select', 'unique', 'equal')

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        name = function.overloadpacket.__name__
        assert name not in self.forbidden, name
        if name == 'index':
            assert all(part is None or part.dtype != torch.bool for part in args[1])
        return function(*args, **(kwargs or {}))


@pytest.mark.parametrize('model', ['cogact', 'openvla'])
@pytest.mark.parametrize('row', [*ROWS, 'options'])
def test_no_value_is_read_on_the_host_before_the_actions(model, row, request):
    options = {'tokens': 5, 'tokens_diversity': 'greedy', 'tokens_hysteresis': 0.2}
    settings = AccelerationConfig(**ROWS.get(row, options), cache_interval=5)
    model = request.getfixturevalue(model)
    engine = engine_for(model, profile=profile_of(model), acceleration=settings)
    look = observation()
    normalised(engine, look)  # the prompt's row mask is made at the first tick
    with NoHostReads():
        normalised(engine, look)


def test_host_reads_would_be_noticed(cogact):
    settings = AccelerationConfig(cache_interval=5, cache_threshold=0.1)
    engine = engine_for(cogact, acceleration=settings)
    with pytest.raises(AssertionError, match=r'item|_local_scalar_dense'), NoHostReads():
        normalised(engine, observation())
