"""The simulator node over DDS: what it publishes, and how its arm follows trajectories."""

from __future__ import annotations

import numpy as np
import pytest
from builtin_interfaces.msg import Time
from ros_harness import NodeProcess
from sim_harness import GARBAGE, SIMULATOR, SimPeer, TopicExpert, nanoseconds, trajectory
from trajectory_msgs.msg import JointTrajectory

from efficientvla_ros.simulation.arm import HOME_POSITIONS, JOINT_NAMES, arm_urdf
from efficientvla_ros.simulation.camera import camera_matrix
from efficientvla_ros.simulation.tasks import OBJECTS, sample_episode

pytestmark = pytest.mark.ros

SEED = 7
HOME = np.array(HOME_POSITIONS)
ASIDE = HOME + [0.3, 0.1, -0.1, 0.0, 0.1, 0.0, -0.02]


@pytest.fixture(scope='module')
def sim(ros_domain, ros_context):
    """A simulator that waits for ~/reset, and a peer: (process, peer)."""
    process = NodeProcess(
        SIMULATOR,
        ros_domain,
        *('-p', 'camera.width:=160', '-p', 'camera.height:=120', '-p', f'seed:={SEED}'),
        *('-p', 'auto_start:=false', '-p', 'auto_reset:=false'),
    )
    peer = SimPeer(ros_context)
    try:
        peer.wait_until_connected()
        yield process, peer
    finally:
        peer.close()
        code = process.end()
    assert code == 0, process.output
    assert 'Traceback' not in process.output, process.output


@pytest.fixture
def started(sim):
    """The same, with an episode that has just begun: (process, peer, episode)."""
    process, peer = sim
    answer = peer.reset()
    assert answer.success
    number = int(answer.message.split()[1])
    peer.joints.wait(since=peer.joints.count)
    return process, peer, sample_episode('pick', SEED + number)


def test_nothing_starts_before_the_first_reset(sim):
    _, peer = sim
    peer.images.wait()
    assert peer.instructions.newest is None
    answer = peer.reset()
    episode = sample_episode('pick', SEED)
    assert answer.success
    assert answer.message == f"episode 0 (seed {SEED}): '{episode.instruction}'"
    assert peer.instructions.wait().data == episode.instruction


def test_camera_is_stamped_with_the_instant_of_the_picture(sim):
    _, peer = sim
    first = peer.images.count
    peer.images.wait(since=first + 20)
    messages = peer.images.since(first)
    newest = messages[-1]
    assert (newest.height, newest.width, newest.step) == (120, 160, 480)
    assert newest.encoding == 'rgb8'
    assert newest.header.frame_id == 'camera_optical_frame'
    assert len(set(bytes(newest.data))) > 20, 'an empty picture'
    stamps = np.array([nanoseconds(m.header.stamp) for m in messages])
    assert (np.diff(stamps) > 0).all()
    assert np.median(np.diff(stamps)) == pytest.approx(1e9 / 15, abs=2.1e7)
    age = nanoseconds(peer.node.get_clock().now().to_msg()) - stamps[-1]
    assert 0 < age < 1e9


def test_camera_info_has_the_matrix_of_the_rendered_camera(sim):
    _, peer = sim
    info = peer.camera_infos.wait()
    k = np.array(info.k).reshape(3, 3)
    expected = camera_matrix(160, 120)
    assert k[0, 0] == pytest.approx(expected[0, 0])
    assert k[1, 1] == pytest.approx(expected[1, 1])
    # CameraInfo counts from the centre of the first pixel.
    assert (k[0, 2], k[1, 2]) == (79.5, 59.5)
    assert np.array(info.p).reshape(3, 4)[:, :3] == pytest.approx(k)
    assert info.distortion_model == 'plumb_bob'
    assert info.header.frame_id == 'camera_optical_frame'
    stamps = {nanoseconds(m.header.stamp) for m in peer.images.since(0)}
    assert nanoseconds(info.header.stamp) in stamps


def test_robot_description_reaches_late_joiners(sim):
    _, peer = sim
    assert peer.descriptions.wait().data == arm_urdf()


def test_joint_states_name_all_joints_50_times_a_second(sim):
    _, peer = sim
    first = peer.joints.count
    peer.joints.wait(since=first + 25)
    messages = peer.joints.since(first)
    assert list(messages[-1].name) == list(JOINT_NAMES)
    assert len(messages[-1].velocity) == len(JOINT_NAMES)
    steps = np.diff([nanoseconds(m.header.stamp) for m in messages])
    assert np.median(steps) == 20_000_000


def test_arm_follows_a_trajectory_and_reports_its_velocity(started):
    _, peer, _ = started
    before = peer.joints.count
    zeros = np.zeros(7)
    peer.send(trajectory(JOINT_NAMES, [1.0], [ASIDE], velocities=[zeros]))
    peer.wait_for_positions(ASIDE)
    speeds = [m.velocity[0] for m in peer.joints.since(before)]
    # A cubic over 0.3 rad in 1 s is fastest in its middle: 0.45 rad/s.
    assert max(speeds) == pytest.approx(0.45, rel=0.25)


def test_joint_order_is_taken_from_the_message(started):
    _, peer, _ = started
    order = list(reversed(range(7)))
    peer.send(trajectory([JOINT_NAMES[i] for i in order], [0.5], [ASIDE[order]]))
    peer.wait_for_positions(ASIDE)


def test_points_in_the_past_are_dropped(started):
    _, peer, _ = started
    peer.joints.wait(since=peer.joints.count + 25)  # 0.5 s into the episode
    start = nanoseconds(peer.joints.newest.header.stamp) - 300_000_000
    stamp = Time(sec=start // 10**9, nanosec=start % 10**9)
    away = HOME - [0.6, 0, 0, 0, 0, 0, 0]
    before = peer.joints.count
    peer.send(trajectory(JOINT_NAMES, [0.1, 1.2], [away, ASIDE], stamp=stamp))
    peer.wait_for_positions(ASIDE)
    assert min(m.position[0] for m in peer.joints.since(before)) > -0.05


def test_a_new_trajectory_replaces_the_old_one(started):
    _, peer, _ = started
    peer.send(trajectory(JOINT_NAMES, [2.0], [HOME + [1.0, 0, 0, 0, 0, 0, 0]]))
    peer.joints.wait(lambda m: m.position[0] > 0.1, since=peer.joints.count)
    peer.send(trajectory(JOINT_NAMES, [0.5], [HOME]))
    peer.wait_for_positions(HOME)


def test_an_empty_trajectory_stops_the_arm(started):
    _, peer, _ = started
    peer.send(trajectory(JOINT_NAMES, [3.0], [HOME + [1.5, 0, 0, 0, 0, 0, 0]]))
    peer.joints.wait(lambda m: m.position[0] > 0.2, since=peer.joints.count)
    peer.send(JointTrajectory())
    still = peer.joints.wait(lambda m: abs(m.velocity[0]) < 0.005, since=peer.joints.count)
    peer.joints.wait(since=peer.joints.count + 20)
    assert peer.positions()[0] == pytest.approx(still.position[0], abs=0.02)
    assert still.position[0] < 1.0


def test_garbage_moves_nothing_and_the_node_goes_on(started):
    process, peer, _ = started
    mark = process.mark()
    for message, _ in GARBAGE.values():
        peer.send(message)
        peer.joints.wait(since=peer.joints.count + 2)  # only the newest message is kept
    process.wait_for_line('joint_trajectory rejected: ', since=mark)
    assert peer.positions() == pytest.approx(HOME, abs=0.01)
    peer.send(trajectory(JOINT_NAMES, [0.5], [ASIDE]))
    peer.wait_for_positions(ASIDE)


def test_all_points_in_the_past_are_rejected_with_a_warning(started):
    process, peer, _ = started
    # Into the episode, and past the throttling of an earlier warning.
    peer.joints.wait(since=peer.joints.count + 110)
    now = nanoseconds(peer.joints.newest.header.stamp) - 500_000_000
    mark = process.mark()
    stamp = Time(sec=now // 10**9, nanosec=now % 10**9)
    peer.send(trajectory(JOINT_NAMES, [0.1, 0.2], [ASIDE, ASIDE], stamp=stamp))
    assert 'in the past' in process.wait_for_line('joint_trajectory rejected', since=mark)
    assert peer.positions() == pytest.approx(HOME, abs=0.01)


def test_reset_puts_the_arm_back_and_drops_what_was_planned_before(started):
    _, peer, _ = started
    peer.send(trajectory(JOINT_NAMES, [0.4], [ASIDE]))
    peer.wait_for_positions(ASIDE)
    old = peer.joints.newest.header.stamp
    results = peer.results.count
    peer.reset()
    aborted = peer.results.wait(since=results)
    assert (aborted.outcome, aborted.success) == ('aborted', False)
    peer.wait_for_positions(HOME)
    peer.send(trajectory(JOINT_NAMES, [5.0], [ASIDE], stamp=old))
    peer.joints.wait(since=peer.joints.count + 25)
    assert peer.positions() == pytest.approx(HOME, abs=0.01)


def test_expert_over_topics_lifts_the_named_object(started):
    _, peer, episode = started
    result = TopicExpert(peer, episode).run()
    assert result.outcome == 'success'
    assert result.success
    assert result.lifted_object == episode.target
    assert (result.seed, result.task) == (episode.seed, 'pick')
    assert result.instruction == episode.instruction
    assert not result.instruction_changed
    assert result.duration == pytest.approx(0.2 * result.steps, abs=0.03)
    assert 0.0 < result.duration < 12.0


@pytest.mark.parametrize('latched', [False, True], ids=['volatile', 'latched'])
def test_changed_instruction_decides_what_counts(started, latched):
    process, peer, episode = started
    other = episode.distractors[0]
    mark = process.mark()
    peer.instruct(f'pick {other}', latched)
    process.wait_for_line('instruction changed', since=mark)
    result = TopicExpert(peer, episode).run()
    assert result.success
    assert result.lifted_object == other
    assert result.instruction == f'pick {other}'
    assert result.instruction_changed


def test_lifting_another_object_ends_the_episode_without_success(started):
    _, peer, episode = started
    expert = TopicExpert(peer, episode)
    other = episode.distractors[0]
    result = expert.run(target=other)
    assert (result.outcome, result.success) == ('wrong_object', False)
    assert result.lifted_object == other


@pytest.mark.parametrize(
    ('text', 'reason'),
    [('open the window', 'expected one known task'), ('x' * 10_000, 'expected one known')],
    ids=['no object', '10 kB'],
)
def test_useless_instruction_is_named_and_ignored(started, text, reason):
    process, peer, _ = started
    peer.joints.wait(since=peer.joints.count + 110)  # past the throttling of an earlier warning
    mark = process.mark()
    peer.instruct(text)
    line = process.wait_for_line('ignored', since=mark)
    assert reason in line
    assert len(line) < 300


def test_instruction_for_an_absent_object_is_ignored(started):
    process, peer, episode = started
    peer.joints.wait(since=peer.joints.count + 110)
    (absent,) = set(OBJECTS) - set(episode.objects)
    mark = process.mark()
    peer.instruct(f'pick {absent}')
    assert f'"{absent}" is not on the table' in process.wait_for_line('ignored', since=mark)
    result = TopicExpert(peer, episode).run(target=episode.target)
    assert result.success
    assert result.instruction == episode.instruction


def test_images_of_the_size_of_the_demo_reach_a_best_effort_subscriber(ros_domain, ros_context):
    """With Fast DDS's default shared-memory segment one image in twenty would arrive."""
    process = NodeProcess(SIMULATOR, ros_domain, '-r', '__ns:=/busy')  # 448 x 448 at 15 Hz
    peer = SimPeer(ros_context, 'busy')
    try:
        peer.wait_until_connected()
        peer.images.wait()
        start = nanoseconds(peer.joints.newest.header.stamp)
        images = peer.images.count
        peer.joints.wait(since=peer.joints.count + 250)
        seconds = (nanoseconds(peer.joints.newest.header.stamp) - start) * 1e-9
        rate = (peer.images.count - images) / seconds
    finally:
        peer.close()
        process.end()
    assert rate > 5.0, f'{rate:.1f} of 15 images per second arrived'
