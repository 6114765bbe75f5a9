"""Channels are chosen from one tick and used in later ones; off, nothing changes."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from naive_plans import deep_cogact, deep_openvla, engine_for, observation, profile_of

from efficientvla_ros.acceleration.channel_scores import energy
from efficientvla_ros.acceleration.config import AccelerationConfig
from efficientvla_ros.models.cogact import CogACT
from efficientvla_ros.models.random_weights import init_weights
from efficientvla_ros.runtime.engine import load_engine
from efficientvla_ros.runtime.timeline import INFERENCE, UPDATES, Timeline

EAP = AccelerationConfig(channels_ratio=0.4)
WITH_TOKENS = replace(EAP, tokens=5, layers=5, cache_interval=5)


@pytest.fixture(scope='module', params=[deep_cogact, deep_openvla])
def model(request):
    return request.param()


@pytest.fixture(scope='module')
def profile(model):
    return profile_of(model)


def tick(engine, seed=0, instruction='pick the can up'):
    """A tick with a gap after it."""
    chunk, report = engine.infer(observation(instruction, seed))
    assert engine.settle()
    return chunk.actions, report


@pytest.mark.parametrize('ratio', [0.0, 1e-4])
def test_a_ratio_that_leaves_nothing_out_is_dense_to_the_last_bit(model, profile, ratio):
    settings = AccelerationConfig(channels_ratio=ratio)
    engine = engine_for(model, profile=profile, acceleration=settings)
    dense = engine_for(model, profile=profile)
    for seed in range(3):
        actions, report = tick(engine, seed)
        assert np.array_equal(actions, tick(dense, seed)[0])
        assert report.channel_ratio == 0.0 and not report.updated


@pytest.mark.parametrize('settings', [EAP, WITH_TOKENS])
def test_a_tick_that_updates_is_dense_to_the_last_bit(model, profile, settings):
    engine = engine_for(model, profile=profile, acceleration=settings)
    dense = engine_for(model, profile=profile, acceleration=replace(settings, channels_ratio=0.0))
    actions, report = tick(engine)
    assert report.updated and report.update_reason == 'first frame'
    assert report.channel_ratio == 0.0 and report.similarity is None
    assert np.array_equal(actions, tick(dense)[0])


def test_the_pattern_of_a_tick_serves_the_next_one_and_no_earlier_one(model, profile):
    engine = engine_for(model, profile=profile, acceleration=EAP)
    keeper = engine.policy.channels.keeper
    calibrated = [layer.mlp_slots.held.clone() for layer in keeper.pruned.layers]
    engine.infer(observation(seed=3))
    assert engine.settle() and keeper.updates == 1
    assert keeper.pruned.made_at == [1] * 7
    # What the frame says counts 0.3, but it is not the history: some channels must have changed.
    now = [layer.mlp_slots.held for layer in keeper.pruned.layers]
    assert any(set(a.tolist()) != set(b.tolist()) for a, b in zip(calibrated, now))
    _, report = tick(engine, seed=3)
    assert report.pattern_age == 1 and report.channel_ratio == 0.4 and not report.updated
    assert report.similarity == pytest.approx(1.0, abs=1e-5)


def test_slots_hold_what_the_scores_of_the_frame_ask_for(profile, model):
    engine = engine_for(model, profile=profile, acceleration=EAP)
    seen, handles = {}, []
    decoder = model.llm_backbone.llm.model
    for place, layer in enumerate(decoder.layers):

        def record(_, inputs, place=place):
            seen.setdefault(place, energy(inputs[0]))

        handles.append(layer.mlp.down_proj.register_forward_pre_hook(record))
    tick(engine, seed=5)
    for handle in handles:
        handle.remove()
    for place, layer in enumerate(decoder.layers):
        fused = 0.7 * profile.mlp_mean_square[place] + 0.3 * seen[place].double()
        weight = layer.mlp.down_proj.weight.double().square().norm(dim=0)
        kept = engine.policy.channels.keeper.pruned.layers[place].mlp_slots.held
        assert set(kept.tolist()) == set((fused * weight).topk(len(kept)).indices.tolist())


def test_static_methods_run_pruned_from_the_first_tick_and_never_update(model, profile):
    for method in ('frozen', 'wanda', 'random'):
        settings = replace(EAP, channels_method=method)
        engine = engine_for(model, profile=profile, acceleration=settings)
        reports = [tick(engine, seed)[1] for seed in range(3)]
        assert {report.channel_ratio for report in reports} == {0.4}
        assert not any(report.updated for report in reports)


def test_static_methods_without_a_profile_stay_off_and_say_so(model):
    for method in ('frozen', 'wanda'):
        engine = engine_for(model, acceleration=replace(EAP, channels_method=method))
        assert 'channel pruning stays off' in engine.plan.notes[0]
        assert tick(engine)[1].channel_ratio == 0.0


def test_every_frame_runs_pruned_and_scores_each_frame_afterwards(model, profile):
    settings = replace(EAP, channels_method='every_frame')
    engine = engine_for(model, profile=profile, acceleration=settings)
    reports = [tick(engine, seed)[1] for seed in range(4)]
    assert {report.channel_ratio for report in reports} == {0.4}
    assert {report.pattern_age for report in reports} == {1}
    assert {report.update_reason for report in reports} == {'every frame'}
    assert engine.policy.channels.keeper.updates == 4


def test_the_dense_pass_in_the_gap_gives_the_pattern_of_a_dense_tick(model, profile):
    in_tick = engine_for(model, profile=profile, acceleration=EAP)
    settings = replace(EAP, channels_method='eap_gap')
    in_gap = engine_for(model, profile=profile, acceleration=settings)
    for seed in (3, 3, 6, 6, 6):
        dense, pruned = tick(in_tick, seed)[1], tick(in_gap, seed)[1]
        assert pruned.channel_ratio == 0.4 and pruned.updated == dense.updated
        assert pruned.update_reason == dense.update_reason
    slots = (engine.policy.channels.keeper.pruned.layers for engine in (in_tick, in_gap))
    for one, other in zip(*slots):
        assert torch.equal(one.mlp_slots.held, other.mlp_slots.held)
        assert torch.equal(one.head_slots.held, other.head_slots.held)
    # Both audits compare the same pattern with the same dense pass.
    np.testing.assert_allclose(dense.audit_deviation, pruned.audit_deviation, atol=1e-5)


def test_without_a_profile_the_first_frame_gives_the_first_pattern(model):
    engine = engine_for(model, acceleration=EAP)
    assert 'history of channels starts with the first frame' in engine.plan.notes[0]
    first, second = tick(engine)[1], tick(engine)[1]
    assert first.updated and first.channel_ratio == 0.0
    assert second.channel_ratio == 0.4 and second.pattern_age == 1


def test_a_new_episode_and_a_new_instruction_update_and_the_history_stays(model, profile):
    engine = engine_for(model, profile=profile, acceleration=EAP)
    keeper = engine.policy.channels.keeper
    tick(engine), tick(engine)
    history = keeper._patterns.history.values.clone()
    assert not torch.equal(history.mlp, profile.mlp_mean_square.float())
    assert tick(engine, instruction='drop the can now')[1].update_reason == 'instruction'
    engine.reset()
    assert tick(engine, instruction='drop the can now')[1].update_reason == 'first frame'
    assert not tick(engine, instruction='drop the can now')[1].updated
    assert keeper.updates == 3


def test_the_history_survives_a_change_of_the_ratio(model, profile):
    engine = engine_for(model, profile=profile, acceleration=EAP)
    tick(engine, seed=8)
    history = engine.policy.channels.keeper._patterns.history
    values = history.values.clone()
    plan = engine.set_acceleration(replace(EAP, channels_ratio=0.25))
    keeper = engine.policy.channels.keeper
    assert keeper._patterns.history is history
    assert all(torch.equal(a, b) for a, b in zip(values, history.values))
    assert {len(layer.mlp_slots) for layer in keeper.pruned.layers} == {plan.slots.mlp}
    assert tick(engine)[1].updated and tick(engine)[1].channel_ratio == 0.25


def test_updates_go_by_the_camera(model, profile):
    still = engine_for(model, profile=profile, acceleration=EAP)
    reports = [tick(still, 0)[1] for _ in range(25)]
    assert min(report.similarity for report in reports[1:]) > 0.999
    ages = [report.pattern_age for report in reports if report.channel_ratio]
    assert all(age >= 1 for age in ages)
    assert 1 <= sum(report.updated for report in reports) < 8


def test_warming_up_leaves_no_trace(model, profile):
    engine = engine_for(model, profile=profile, acceleration=EAP)
    channels = engine.policy.channels
    before = channels.keeper._patterns.history.values.clone()
    engine.warm_up()
    assert channels.gate.ticks == 0 and channels.keeper.updates == 0
    after = channels.keeper._patterns.history.values
    assert all(torch.equal(a, b) for a, b in zip(before, after))
    assert all(lock.acquire(blocking=False) for lock in channels.keeper.pruned._locks)


def test_a_pruned_tick_is_the_masked_dense_one(model, profile):
    engine = engine_for(model, profile=profile, acceleration=EAP)
    tick(engine)
    layers = engine.policy.channels.keeper.pruned.layers
    kept = [(layer.mlp_slots.held, layer.head_slots.held) for layer in layers]
    actions, report = tick(engine)
    assert report.channel_ratio == 0.4
    handles = mask(model, kept)
    try:
        masked, _ = tick(engine_for(model))
    finally:
        for handle in handles:
            handle.remove()
    np.testing.assert_allclose(actions, masked, atol=1e-5)


@pytest.mark.parametrize('kv_heads', [1, 2])
def test_query_heads_that_share_keys_and_values_are_pruned_one_by_one(kv_heads):
    config = deep_cogact().config
    shared = replace(config, llm=replace(config.llm, kv_heads=kv_heads))
    model = init_weights(CogACT(shared), seed=4).eval().requires_grad_(False)
    engine = engine_for(model, profile=profile_of(model), acceleration=EAP)
    tick(engine)
    layers = engine.policy.channels.keeper.pruned.layers
    kept = [(layer.mlp_slots.held, layer.head_slots.held) for layer in layers]
    actions, report = tick(engine)
    assert report.channel_ratio == 0.4 and {len(heads) for _, heads in kept} == {3}
    handles = mask(model, kept)
    masked, _ = tick(engine_for(model))
    for handle in handles:
        handle.remove()
    np.testing.assert_allclose(actions, masked, atol=1e-5)


def test_the_embedded_policy_runs_pruned_in_bfloat16():
    engine = load_engine('tabletop-pick', dtype='bfloat16', acceleration='ecovla_40')
    look = observation('pick up the red can')
    reports = []
    for _ in range(2):
        chunk, report = engine.infer(look)
        assert engine.settle() and np.isfinite(chunk.actions).all()
        reports.append(report)
    assert [report.channel_ratio for report in reports] == [0.0, 0.4]
    assert np.isfinite(reports[1].audit_deviation).all()
    slots = engine.policy.channels.keeper.pruned.layers[0].mlp_slots
    assert {buffer.dtype for buffer in slots.buffers} == {torch.bfloat16}


def mask(model, kept):
    """Zeroes what is not kept at the input of the last projections of the plain layers."""
    handles = []
    for layer, (channels, heads) in zip(model.llm_backbone.llm.model.layers, kept):
        attention = layer.self_attn
        width = torch.zeros(layer.mlp.down_proj.in_features)
        width[channels] = 1.0
        whole = torch.zeros(attention.heads, attention.head_dim)
        whole[heads] = 1.0
        for projection, factor in ((layer.mlp.down_proj, width), (attention.o_proj, whole)):
            flat = factor.flatten()
            handles.append(
                projection.register_forward_pre_hook(
                    lambda _, inputs, flat=flat: (inputs[0] * flat,)
                )
            )
    return handles


def test_the_timeline_shows_stages_and_updates(model, profile, tmp_path):
    engine = engine_for(model, profile=profile, acceleration=EAP)
    engine.timeline = Timeline()
    tick(engine), tick(engine)
    engine.timeline.save(tmp_path / 'trace.json')
    trace = engine.timeline.to_json()['traceEvents']
    tracks = {event['tid']: event['args']['name'] for event in trace if event['ph'] == 'M'}
    names = {}
    for event in trace:
        if event['ph'] == 'X':
            names.setdefault(tracks[event['tid']], []).append(event['name'])
            assert event['dur'] >= 0.0
    assert names[INFERENCE].count('language') == 2
    assert names[UPDATES].count('rewrite') == 7 and {'score', 'audit'} <= set(names[UPDATES])
    assert (tmp_path / 'trace.json').stat().st_size > 1000
