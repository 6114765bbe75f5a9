"""Work between ticks: it waits for a gap, no tick waits for it, and it dies in the open."""

import gc
import threading
import time

import pytest

from efficientvla_ros.runtime.gap_worker import GapWorker, TickGate
from efficientvla_ros.runtime.timeline import Timeline

FOREVER_S = 30.0
SHORT_S = 0.15


def passes(gate: TickGate, since: int) -> threading.Event:
    """An event that is set once work asked for at tick `since` may go on."""
    done = threading.Event()

    def run():
        gate.wait(since)
        done.set()

    threading.Thread(target=run, daemon=True).start()
    return done


@pytest.fixture
def worker():
    return GapWorker('test work')


def test_work_waits_until_the_tick_is_over():
    gate = TickGate(overlaps=False)
    gate.begin()
    gate.begin_reading()
    done = passes(gate, since=1)
    gate.end_reading()
    assert not done.wait(SHORT_S) and gate.in_tick
    gate.end()
    assert done.wait(FOREVER_S) and not gate.in_tick


def test_work_that_missed_a_gap_goes_on_beside_stages_that_read_no_channels():
    gate = TickGate(overlaps=False)
    for _ in range(2):
        gate.begin()
    done = passes(gate, since=1)
    assert done.wait(FOREVER_S)
    gate.begin_reading()
    done = passes(gate, since=1)
    assert not done.wait(SHORT_S)
    gate.end_reading()
    assert done.wait(FOREVER_S)


def test_where_there_is_room_for_it_work_goes_on_beside_the_tick_it_is_from():
    gate = TickGate(overlaps=True)
    gate.begin()
    assert passes(gate, since=1).wait(FOREVER_S)


def test_a_tick_that_ends_by_an_error_opens_the_gate():
    gate = TickGate(overlaps=False)
    gate.begin()
    gate.begin_reading()
    gate.end()
    assert passes(gate, since=1).wait(FOREVER_S)


def test_jobs_run_in_order_in_one_other_thread(worker):
    seen = []
    for number in range(20):
        assert worker.submit(lambda number=number: seen.append((number, threading.get_ident())))
    assert worker.wait(FOREVER_S) and not worker.busy
    assert [number for number, _ in seen] == list(range(20))
    assert len({thread for _, thread in seen}) == 1
    assert seen[0][1] != threading.get_ident()


def test_it_is_busy_until_the_last_job_is_done(worker):
    go_on = threading.Event()
    worker.submit(lambda: go_on.wait(FOREVER_S))
    worker.submit(lambda: None)
    assert worker.busy and not worker.wait(0.01)
    go_on.set()
    assert worker.wait(FOREVER_S) and not worker.busy


def fail():
    raise ValueError('two\nlines')


def test_a_job_that_raises_is_told_and_the_next_one_runs_in_a_new_thread(worker):
    worker.submit(fail)
    assert worker.wait(FOREVER_S)
    assert worker.failures == 1 and worker.last_error == 'ValueError: two lines'
    done = threading.Event()
    assert worker.submit(done.set) and done.wait(FOREVER_S) and not worker.dead


def test_jobs_behind_one_that_raises_are_dropped(worker):
    go_on, ran = threading.Event(), []

    def late():
        go_on.wait(FOREVER_S)
        fail()

    worker.submit(late)
    worker.submit(lambda: ran.append(1))
    go_on.set()
    assert worker.wait(FOREVER_S) and ran == [] and worker.failures == 1


def test_after_a_second_end_nothing_runs_any_more(worker):
    for _ in range(2):
        worker.submit(fail)
        assert worker.wait(FOREVER_S)
    ran = []
    assert worker.dead and not worker.submit(lambda: ran.append(1))
    assert worker.wait(FOREVER_S) and ran == []


def test_the_thread_ends_when_the_worker_is_let_go():
    others = set(threading.enumerate())
    worker = GapWorker('test work')
    worker.submit(lambda: None)
    assert worker.wait(FOREVER_S)
    (thread,) = set(threading.enumerate()) - others
    assert thread.daemon
    del worker
    gc.collect()
    thread.join(FOREVER_S)
    assert not thread.is_alive()


def test_a_timeline_is_a_chrome_trace_in_the_order_of_time():
    timeline = Timeline()
    with timeline.span('two', 'outer', tick=3):
        time.sleep(0.002)
        timeline.mark('one', 'now')
        timeline.count('ratio', 0.25)
    events = timeline.to_json()['traceEvents']
    named = [event for event in events if event['ph'] != 'M']
    assert [event['name'] for event in named] == ['outer', 'now', 'ratio']
    assert named[0]['dur'] >= 2000 and named[0]['args'] == {'tick': 3}
    assert [event['ts'] for event in named] == sorted(event['ts'] for event in named)
    tracks = {event['tid']: event['args']['name'] for event in events if event['ph'] == 'M'}
    assert [tracks[event['tid']] for event in named[:2]] == ['two', 'one']
    assert len({event['pid'] for event in events}) == 1


def test_a_timeline_keeps_the_newest_events():
    timeline = Timeline(capacity=3)
    for number in range(10):
        timeline.mark('one', str(number))
    names = [event['name'] for event in timeline.to_json()['traceEvents'] if event['ph'] == 'i']
    assert len(timeline) == 3 and names == ['7', '8', '9']
