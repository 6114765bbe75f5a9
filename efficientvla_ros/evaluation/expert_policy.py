"""The scripted expert behind the engine's interface: what control alone can reach.

It looks at the simulator's ground truth instead of the image, so its success rate is the upper
bound for a policy that runs through the same control path with the same latency.
"""

from __future__ import annotations

import time

from efficientvla_ros.simulation.environment import TabletopEnvironment
from efficientvla_ros.simulation.expert import plan
from efficientvla_ros.simulation.tasks import CONTROL_PERIOD
from efficientvla_ros.types import ActionChunk, Observation, TickReport


class ExpertPolicy:
    """Plans for what the instruction of the running episode asks for."""

    model_name = 'expert'
    step_duration = CONTROL_PERIOD

    def __init__(self, environment: TabletopEnvironment, horizon: int = 8) -> None:
        """Sets up the expert of an environment."""
        self.horizon = horizon
        self._environment = environment
        self._sequence = 0

    def infer(self, observation: Observation) -> tuple[ActionChunk, TickReport]:
        """Plans from the true state at the observation."""
        start = time.perf_counter()
        actions = plan(
            self._environment.table_state(), self._environment.goal, horizon=self.horizon
        )
        self._sequence += 1
        chunk = ActionChunk(
            actions,
            self.step_duration,
            observation.stamp_ns,
            observation.instruction,
            self._sequence,
        )
        return chunk, TickReport({'action_head': time.perf_counter() - start})
