"""Results in process carry over to ROS: the same controller with the same settings."""

from __future__ import annotations

from efficientvla_ros.evaluation.closed_loop import make_controller
from efficientvla_ros.evaluation.settings import EvaluationSettings
from efficientvla_ros.ros.parameters.control_settings import control_config
from efficientvla_ros.ros.parameters.policy import TABLE
from efficientvla_ros.ros.parameters.tabletop_arm import TABLETOP_ARM


def test_the_limits_are_those_of_the_demo():
    assert make_controller().config == control_config(TABLE.settings(TABLETOP_ARM))


def test_the_arm_is_the_one_that_the_policy_node_expects_by_default():
    parameters = TABLE.settings()
    controller = make_controller()
    assert list(controller.kinematics.joint_names) == list(parameters['control.joints'])
    assert controller.kinematics.tcp_frame == parameters['control.tcp_frame']
    assert controller.gripper_joint == parameters['gripper.joint']


def test_plans_follow_each_other_at_the_same_rate():
    assert EvaluationSettings().execute_steps == TABLE.settings()['control.execute_steps']
