"""A policy whose inferences are kept."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from efficientvla_ros.simulation.phases import phase
from efficientvla_ros.types import ActionChunk, Observation, TickReport

if TYPE_CHECKING:
    from efficientvla_ros.evaluation.closed_loop import Policy
    from efficientvla_ros.simulation.environment import TabletopEnvironment


@dataclass(frozen=True)
class Look:
    """One inference.

    Attributes:
        observation: what the policy saw.
        chunk: what it planned.
        report: what that cost and did.
        phase: what the arm was doing (`phases.PHASES`); '' where nobody looked.
    """

    observation: Observation
    chunk: ActionChunk
    report: TickReport
    phase: str = ''


class WatchedPolicy:
    """Hands everything on to a policy and keeps it.

    Attributes:
        looks: inferences so far; may be cleared.
    """

    def __init__(self, policy: Policy, environment: TabletopEnvironment | None = None) -> None:
        """Watches a policy, and the arm's phase if the environment that it acts in is given."""
        self._policy, self._environment = policy, environment
        self.step_duration = policy.step_duration
        self.looks: list[Look] = []

    def infer(self, observation: Observation) -> tuple[ActionChunk, TickReport]:
        """As the policy's."""
        chunk, report = self._policy.infer(observation)
        environment, name = self._environment, ''
        if environment is not None:
            name = phase(environment.table_state(), environment.target)
        self.looks.append(Look(observation, chunk, report, name))
        return chunk, report
