"""A policy acts, the expert labels: its mistakes are kept; workers end with their parent."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time

import numpy as np

from efficientvla_ros.evaluation.policy_actor import make_actor
from efficientvla_ros.simulation.demonstrations import Demonstrator, Disturbances
from efficientvla_ros.simulation.recording import write_shard

SIZE = 64
ALWAYS = Disturbances(acting=(1.0, 1.0), frames=6, switch_rate=0.0)


def straight_up(image: np.ndarray, instruction: str) -> np.ndarray:
    assert image.shape == (SIZE, SIZE, 3) and instruction.startswith('pick')
    actions = np.zeros((8, 7))
    actions[:, 2], actions[:, 6] = 0.02, 1.0
    return actions


def test_failures_of_the_policy_are_kept_with_the_labels_of_the_expert(tmp_path):
    demonstrator = Demonstrator('pick', SIZE, ALWAYS, straight_up)
    try:
        path = tmp_path / 'shard.npz'
        write_shard(path, demonstrator, range(3), keep_all=True)
        demonstration = demonstrator.demonstrate(1)
    finally:
        demonstrator.close()
    with np.load(path) as shard:
        assert shard['seeds'].tolist() == [0, 1, 2]
        assert np.bincount(shard['episode']).tolist() == [6, 6, 6]
        heights = shard['tcp'][shard['episode'] == 1, 2]
    # The policy went up all the time; the expert wants to come down.
    assert np.all(np.diff(heights)[1:] > 0.005)
    assert not demonstration.success
    assert demonstration.rows['plans'][-1][0, 0, 2] < 0


def test_the_policy_acts_by_a_preset():
    image = np.full((SIZE, SIZE, 3), 90, np.uint8)
    image[20:40, 10:30] = (220, 20, 20)
    plans = [
        make_actor('tabletop-pick', preset)(image, 'pick the red can')
        for preset in ('dense', 'efficientvla')
    ]
    assert plans[0].shape == plans[1].shape and not np.allclose(*plans)


def test_workers_end_with_a_parent_that_is_killed(tmp_path):
    command = [sys.executable, '-m', 'efficientvla_ros.cli.main', 'record', '--episodes', '4000',
               '--workers', '1', '--image-size', '32', '--out', str(tmp_path)]  # fmt: skip
    parent = subprocess.Popen(command, stdout=subprocess.DEVNULL, start_new_session=True)
    deadline = time.monotonic() + 60
    while not (members := _session(parent.pid) - {parent.pid}):
        assert parent.poll() is None and time.monotonic() < deadline
        time.sleep(0.1)
    time.sleep(2.0)  # the pool starts its helpers one after the other
    members |= _session(parent.pid)
    os.kill(parent.pid, signal.SIGKILL)
    parent.wait()
    while _session(parent.pid):
        assert time.monotonic() < deadline, f'left over: {_session(parent.pid)} of {members}'
        time.sleep(0.1)


def _session(leader: int) -> set[int]:
    """Processes of a session that are alive."""
    found = set()
    for entry in os.listdir('/proc'):
        try:
            with open(f'/proc/{entry}/stat') as file:
                fields = file.read().rpartition(')')[2].split()
        except OSError:
            continue
        if fields and fields[0] != 'Z' and int(fields[3]) == leader:
            found.add(int(entry))
    return found
