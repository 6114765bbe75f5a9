"""Action servers of an arm and two grippers as a process; says in lines what happens to goals.

Goals are treated as ros2_control does: a new one ends the one before, a cancelled one stops. The
topic `behaviour` changes it: `accept`, `reject` or `abort`.
"""

from __future__ import annotations

import contextlib
import itertools
import sys
import time

import rclpy
from control_msgs.action import FollowJointTrajectory, GripperCommand, ParallelGripperCommand
from rclpy.action import ActionServer, CancelResponse, GoalResponse
from rclpy.callback_groups import ReentrantCallbackGroup
from rclpy.executors import ExternalShutdownException, MultiThreadedExecutor
from rclpy.node import Node
from std_msgs.msg import String


def say(*words: object) -> None:
    # In one piece: goals run in several threads.
    sys.stdout.write(' '.join(str(word) for word in words) + '\n')
    sys.stdout.flush()


class Servers(Node):
    """An arm and its grippers."""

    def __init__(self) -> None:
        super().__init__('action_servers')
        self.behaviour = 'accept'
        self.newest = 0
        self.numbers = itertools.count(1)
        self.create_subscription(String, 'behaviour', self.on_behaviour, 1)
        self.serve(FollowJointTrajectory, 'follow_joint_trajectory', self.follow)
        self.serve(GripperCommand, 'gripper_command', self.grip)
        self.serve(ParallelGripperCommand, 'parallel_gripper', self.grip_in_parallel)
        say('ready')

    def serve(self, kind: type, name: str, execute) -> None:
        ActionServer(
            self,
            kind,
            name,
            execute,
            goal_callback=lambda goal: self.on_goal(name),
            cancel_callback=lambda goal: CancelResponse.ACCEPT,
            callback_group=ReentrantCallbackGroup(),
        )

    def on_behaviour(self, message: String) -> None:
        self.behaviour = message.data
        say('behaviour', message.data)

    def on_goal(self, name: str) -> GoalResponse:
        if self.behaviour == 'reject':
            say('rejected', name)
            return GoalResponse.REJECT
        return GoalResponse.ACCEPT

    def follow(self, goal) -> FollowJointTrajectory.Result:
        trajectory = goal.request.trajectory
        number = self.newest = next(self.numbers)
        times = [
            p.time_from_start.sec + 1e-9 * p.time_from_start.nanosec for p in trajectory.points
        ]
        rest = not any(trajectory.points[-1].velocities)
        say('arm goal', number, len(trajectory.joint_names), f'{times[0]:.3f}', rest)
        ends = time.monotonic() + times[-1]
        result = FollowJointTrajectory.Result()
        while time.monotonic() < ends and self.newest == number and not goal.is_cancel_requested:
            time.sleep(0.01)
        if self.behaviour == 'abort':
            result.error_code = FollowJointTrajectory.Result.PATH_TOLERANCE_VIOLATED
            result.error_string = 'elbow is too far off'
            goal.abort()
            say('arm aborted', number)
        elif goal.is_cancel_requested:
            goal.canceled()
            say('arm cancelled', number)
        elif self.newest != number:
            goal.abort()
            say('arm preempted', number)
        else:
            goal.succeed()
            say('arm done', number)
        return result

    def grip(self, goal) -> GripperCommand.Result:
        command = goal.request.command
        say('gripper goal', f'{command.position:g}', f'{command.max_effort:g}')
        goal.succeed()
        return GripperCommand.Result(position=command.position, reached_goal=True)

    def grip_in_parallel(self, goal) -> ParallelGripperCommand.Result:
        command = goal.request.command
        say('parallel goal', *command.name, *command.position, *command.effort)
        goal.abort()  # as a controller that takes an object between the fingers for a failure
        return ParallelGripperCommand.Result(state=command, stalled=True)


def main() -> int:
    rclpy.init()
    executor = MultiThreadedExecutor(num_threads=6)
    executor.add_node(Servers())
    with contextlib.suppress(KeyboardInterrupt, ExternalShutdownException):
        executor.spin()
    return 0


if __name__ == '__main__':
    sys.exit(main())
