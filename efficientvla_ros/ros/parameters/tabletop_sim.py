"""Parameters of the simulator node: one table for descriptors, checks, YAML and documentation."""

from __future__ import annotations

from efficientvla_ros.ros.parameters.table import Changes, ParameterTable, Spec
from efficientvla_ros.simulation.goals import ALL_TASKS, TASKS
from efficientvla_ros.simulation.variation import SETTINGS

_SPECS = (
    Spec(
        'task',
        'pick',
        'Task of every episode; `all` takes one after the other.',
        choices=(*TASKS, ALL_TASKS),
        changes=Changes.NEVER,
    ),
    Spec(
        'setting',
        'matching',
        'Look and events of every episode: `variants` changes light, colours and camera and adds '
        'distractors, `dynamic` moves an object or the drawer while the arm acts.',
        choices=SETTINGS,
        changes=Changes.NEVER,
    ),
    Spec(
        'seed',
        0,
        'Seed of the first episode; every further one adds 1, unless `repeat` says otherwise.',
        low=0,
        high=2**53,
        changes=Changes.NEVER,
    ),
    Spec(
        'repeat',
        1,
        'Episodes in a row with the same seed and task, so that two settings of a policy can be '
        'compared on the same scene.',
        low=1,
        high=1_000_000,
        changes=Changes.NEVER,
    ),
    Spec(
        'episodes',
        0,
        'Number of episodes, after which the simulation goes on without one; 0 means endless.',
        low=0,
        high=1_000_000,
        changes=Changes.NEVER,
    ),
    Spec(
        'auto_start',
        True,
        'The first episode starts at once; otherwise on `~/reset`.',
        changes=Changes.NEVER,
    ),
    Spec(
        'auto_reset',
        True,
        'The next episode starts by itself when one has ended; otherwise on `~/reset`.',
    ),
    Spec(
        'pause',
        1.0,
        'Simulated time between an episode and the next one.',
        unit='s',
        low=0.0,
        high=3600.0,
    ),
    Spec(
        'real_time_factor',
        1.0,
        'Simulated seconds per second. With a factor other than 1 the simulated time is '
        'published on `/clock`, and all nodes need `use_sim_time`.',
        low=0.01,
        high=20.0,
        changes=Changes.NEVER,
    ),
    Spec(
        'publish_clock',
        False,
        'Publish the simulated time on `/clock` although the factor is 1.',
        changes=Changes.NEVER,
    ),
    Spec(
        'camera.width',
        448,
        'Width of the camera image.',
        unit='pixels',
        low=16,
        high=4096,
        changes=Changes.NEVER,
    ),
    Spec(
        'camera.height',
        448,
        'Height of the camera image.',
        unit='pixels',
        low=16,
        high=4096,
        changes=Changes.NEVER,
    ),
    Spec(
        'camera.rate',
        15.0,
        'Images per simulated second; images fall on the 50 Hz grid of the simulation.',
        unit='Hz',
        low=0.1,
        high=50.0,
    ),
    Spec(
        'frames.base',
        'base_link',
        'frame_id of joint states and episode results.',
        changes=Changes.NEVER,
    ),
    Spec(
        'frames.camera',
        'camera_optical_frame',
        'frame_id of camera images (x right, y down, z forward).',
        changes=Changes.NEVER,
    ),
)

TABLE = ParameterTable(
    'tabletop_sim_node', _SPECS, 'config/tabletop_sim.yaml', 'docs/tabletop_sim_parameters.md'
)
