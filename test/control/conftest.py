from __future__ import annotations

import pytest
from hypothesis import settings

from efficientvla_ros.control.kinematics import ArmKinematics
from efficientvla_ros.simulation.arm import ARM_JOINTS, TCP_FRAME, arm_urdf

# Test machines are shared: the time of a single example says nothing.
settings.register_profile('shared_machine', deadline=None)
settings.load_profile('shared_machine')


@pytest.fixture(scope='session')
def kinematics() -> ArmKinematics:
    return ArmKinematics(arm_urdf(), ARM_JOINTS, TCP_FRAME)
