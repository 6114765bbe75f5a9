"""Names of topics that the live node and replay must agree on; free of ROS."""

from __future__ import annotations

JOINT_STATES = 'joint_states'
ROBOT_DESCRIPTION = 'robot_description'
INSTRUCTION = 'instruction'


def image_topic(camera: str, compressed: bool) -> str:
    """Returns the topic of a camera, relative to the namespace of the node."""
    return f'{camera}/image_raw' + ('/compressed' if compressed else '')
