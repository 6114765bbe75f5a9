"""Updates that are late, fail or meet bad numbers: ticks go on, and say what happened."""

import gc
import random
import threading
import time
from dataclasses import replace

import numpy as np
import pytest
import torch
from naive_plans import deep_cogact, deep_openvla, engine_for, observation, profile_of

from efficientvla_ros.acceleration.compact_layer import CompactLayer
from efficientvla_ros.acceleration.config import AccelerationConfig
from efficientvla_ros.runtime.audit import AuditSettings
from efficientvla_ros.runtime.pruned_layers import PrunedLayers

EAP = AccelerationConfig(channels_ratio=0.4)
OFTEN = replace(EAP, channels_update_rate=0.5)
FOREVER_S = 30.0


@pytest.fixture(scope='module', params=[deep_cogact, deep_openvla])
def model(request):
    return request.param()


@pytest.fixture(scope='module')
def profile(model):
    return profile_of(model)


@pytest.fixture
def engine(model, profile):
    engine = engine_for(model, profile=profile, acceleration=EAP)
    # An audit would take the gaps that these tests are about.
    engine.audit = AuditSettings(enabled=False)
    yield engine
    assert engine.settle()


def keeper_of(engine):
    return engine.policy.channels.keeper


def test_a_tick_does_not_wait_for_a_layer_that_is_being_rewritten(engine, monkeypatch):
    started, go_on = threading.Event(), threading.Event()
    apply = CompactLayer.apply_delta

    def slow(layer, delta):
        started.set()
        assert go_on.wait(FOREVER_S)
        return apply(layer, delta)

    monkeypatch.setattr(CompactLayer, 'apply_delta', slow)
    engine.infer(observation(seed=1))
    assert started.wait(FOREVER_S)
    taken = keeper_of(engine).pruned.take()
    assert taken.whole == 1  # the layer in work runs whole, the others as before
    taken.give_back()
    # These would hang if they waited for the worker, which waits for the test.
    reports = [engine.infer(observation(seed=seed))[1] for seed in (1, 2, 3)]
    assert [report.updates_missed for report in reports] == [1, 2, 3]
    assert reports[0].channel_ratio == 0.4 and reports[0].pattern_age == 2
    go_on.set()
    assert engine.settle(FOREVER_S)
    missed = engine.infer(observation(seed=3))[1].updates_missed
    assert missed == 3


def test_an_update_that_finds_no_room_is_made_up_for(engine, monkeypatch):
    started, go_on = threading.Event(), threading.Event()
    keeper = keeper_of(engine)
    update = keeper.update

    def slow(job, pause):
        started.set()
        assert go_on.wait(FOREVER_S)
        update(job, pause)

    monkeypatch.setattr(keeper, 'update', slow)
    for _ in range(3):  # two updates may wait; the third finds no room
        engine.reset()
        report = engine.infer(observation())[1]
        assert started.wait(FOREVER_S)
    assert not report.updated and report.channel_ratio == 0.4
    go_on.set()
    assert engine.settle(FOREVER_S) and keeper.updates == 2
    report = engine.infer(observation())[1]
    assert report.updated and report.update_reason == 'retry'
    assert engine.settle(FOREVER_S) and not engine.infer(observation())[1].updated


def test_no_pattern_is_used_in_the_tick_it_was_chosen_from_whatever_the_delays(
    engine, monkeypatch
):
    rng = random.Random(0)
    engine.set_acceleration(OFTEN)
    channels, take, apply = engine.policy.channels, PrunedLayers.take, CompactLayer.apply_delta
    seen = []

    def checked(pruned):
        taken = take(pruned)
        # Patterns in use are of earlier ticks, and none changes while the tick reads.
        assert max(pruned.made_at) < channels.gate.ticks
        assert not any(
            layer.intact is False for layer in taken.layers if isinstance(layer, CompactLayer)
        )
        versions = [layer.version for layer in pruned.layers]
        give_back = taken.give_back

        def ended():
            held = [got for got in taken._got]
            now = [layer.version for layer in pruned.layers]
            assert all(a == b for a, b, got in zip(versions, now, held) if got)
            seen.append(taken.whole)
            give_back()

        taken.give_back = ended
        return taken

    def delayed(layer, delta):
        time.sleep(rng.random() * 2e-3)
        return apply(layer, delta)

    monkeypatch.setattr(PrunedLayers, 'take', checked)
    monkeypatch.setattr(CompactLayer, 'apply_delta', delayed)
    reports = []
    for tick in range(120):
        reports.append(engine.infer(observation(seed=tick))[1])
        if rng.random() < 0.3:
            time.sleep(rng.random() * 10e-3)
    pruned = [report for report in reports if report.channel_ratio]
    assert len(seen) >= len(pruned) > 20
    assert all(report.pattern_age >= 1 for report in pruned)
    assert engine.settle(FOREVER_S) and keeper_of(engine).updates > 3


def test_slots_that_were_rewritten_under_load_are_those_of_fresh_packing(engine):
    engine.set_acceleration(OFTEN)
    for tick in range(40):
        engine.infer(observation(seed=tick))
    assert engine.settle(FOREVER_S)
    keeper = keeper_of(engine)
    pattern, pruned = keeper._patterns.pattern, keeper.pruned
    fresh = PrunedLayers(pruned.rows, pattern)
    for place, (layer, other) in enumerate(zip(pruned.layers, fresh.layers)):
        assert set(layer.mlp_slots.held.tolist()) == set(pattern.mlp[place].tolist())
        for mine, new in (
            (layer.mlp_slots, other.mlp_slots),
            (layer.head_slots, other.head_slots),
        ):
            order = [mine.held.tolist().index(item) for item in new.held.tolist()]
            for buffer, packed in zip(mine.buffers, new.buffers):
                assert torch.equal(buffer[order], packed)


def fail_at(monkeypatch, engine, calls):
    """Makes the numbered scorings of the engine's keeper raise."""
    keeper, count = keeper_of(engine), iter(range(1000))
    audit = keeper._audit

    def failing(*arguments):
        if next(count) in calls:
            raise RuntimeError('no more\nmemory')
        return audit(*arguments)

    monkeypatch.setattr(keeper, '_audit', failing)


def gap(engine, seed=0):
    _, report = engine.infer(observation(seed=seed))
    assert engine.settle(FOREVER_S)
    return report


def test_a_worker_that_dies_is_started_again_once(engine, monkeypatch):
    fail_at(monkeypatch, engine, {0})
    gap(engine)
    report = gap(engine)
    assert report.notes == (
        'channel updates ended by RuntimeError: no more memory: they are started again',
    )
    assert report.updated and report.update_reason == 'retry'
    report = gap(engine)
    assert report.notes == () and report.channel_ratio == 0.4 and report.pattern_age == 1


def test_a_worker_that_dies_twice_leaves_ticks_dense_and_a_new_plan_starts_over(
    engine, model, profile, monkeypatch
):
    fail_at(monkeypatch, engine, {0, 1})
    dense = engine_for(model, profile=profile)
    gap(engine)
    gap(engine)
    chunk, report = engine.infer(observation())
    assert 'ticks run dense from now on' in report.notes[0] and len(report.notes) == 1
    for seed in range(3):
        chunk, report = engine.infer(observation(seed=seed))
        assert report.channel_ratio == 0.0 and not report.updated and report.notes == ()
        assert np.array_equal(chunk.actions, dense.infer(observation(seed=seed))[0].actions)
    engine.set_acceleration(EAP)
    gap(engine)
    assert gap(engine).channel_ratio == 0.4


def test_a_layer_whose_update_broke_off_runs_whole_until_it_is_filled_anew(engine, monkeypatch):
    apply, broken = CompactLayer.apply_delta, []

    def breaks(layer, delta):
        if not broken:
            broken.append(layer)
            layer.intact = False
            layer.mlp_slots.buffers[0].zero_()
            raise RuntimeError('broke off')
        return apply(layer, delta)

    monkeypatch.setattr(CompactLayer, 'apply_delta', breaks)
    gap(engine)
    taken = keeper_of(engine).pruned.take()
    assert taken.whole == 1 and broken[0] not in taken.layers
    taken.give_back()
    gap(engine)
    taken = keeper_of(engine).pruned.take()
    assert taken.whole == 0 and broken[0].intact
    assert broken[0].mlp_slots.buffers[0].abs().sum() > 0
    taken.give_back()


def test_a_history_that_is_not_finite_is_told_once_and_recovers(engine):
    gap(engine)
    keeper = keeper_of(engine)
    before = [layer.mlp_slots.held.clone() for layer in keeper.pruned.layers]
    history = keeper._patterns.history.values
    with torch.inference_mode():
        history.mlp[3, 5] = float('nan')
    engine.reset()
    # The worker may be done before the tick's report is.
    reports = [gap(engine, seed=9), gap(engine, seed=9)]
    assert reports[0].updated and reports[0].notes + reports[1].notes == (
        'energies of 1 decoder layers are not finite: they keep their channels',
    )
    after = keeper.pruned.layers[3].mlp_slots.held
    assert torch.equal(before[3], after) and keeper.rejected == 1
    assert history.mlp.isfinite().all()
    engine.reset()
    gap(engine, seed=9)
    assert keeper.rejected == 1 and gap(engine, seed=9).notes == ()


def test_images_that_give_no_finite_features_do_not_stop_ticks(engine, monkeypatch):
    gap(engine)
    backbone = engine.model.vision_backbone
    hook = backbone.register_forward_hook(lambda *_: torch.full_like(_[2], float('nan')))
    try:
        report = gap(engine)
    finally:
        hook.remove()
    assert report.similarity is None
    reports = [gap(engine) for _ in range(4)]
    assert reports[-1].similarity == pytest.approx(1.0, abs=1e-5)
    assert any(report.channel_ratio == 0.4 for report in reports)


def test_a_tick_that_fails_in_the_middle_gives_everything_back(engine, monkeypatch):
    gap(engine)
    decoder = engine.policy._decoder
    run = decoder.prompt

    def broken(*arguments, **options):
        run(*arguments, **options)
        raise RuntimeError('device lost')

    for seed in range(3):  # an update among them or not
        with monkeypatch.context() as patch:
            patch.setattr(decoder, 'prompt', broken)
            with pytest.raises(RuntimeError):
                engine.infer(observation(seed=seed))
    channels = engine.policy.channels
    assert not channels.gate.in_tick and all(taps.free for taps in channels._taps)
    taken = channels.keeper.pruned.take()
    assert taken.whole == 0
    taken.give_back()
    assert gap(engine).total_seconds > 0


def test_the_ratio_changes_under_a_running_loop(engine):
    stop, reports, failures = threading.Event(), [], []

    def run():
        try:
            while not stop.is_set():
                reports.append(engine.infer(observation(seed=len(reports) % 5))[1])
        except BaseException as error:
            failures.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    try:
        for ratio in (0.25, 0.4, 0.0, 0.25, 0.6):
            engine.set_acceleration(replace(EAP, channels_ratio=ratio))
            before = len(reports)
            while len(reports) < before + 12 and thread.is_alive():
                time.sleep(1e-3)
    finally:
        stop.set()
        thread.join()
    assert failures == []
    assert {report.channel_ratio for report in reports} >= {0.0, 0.25, 0.6}


def test_a_policy_that_is_let_go_ends_its_thread(model, profile):
    others = set(threading.enumerate())
    engine = engine_for(model, profile=profile, acceleration=EAP)
    gap(engine)
    threads = set(threading.enumerate()) - others
    assert [thread.name for thread in threads] == ['channel updates']
    del engine
    gc.collect()
    for thread in threads:
        thread.join(FOREVER_S)
        assert not thread.is_alive()
