"""Which policy the next tick runs: changed between two ticks, by hand or by a latency budget."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from threading import Lock

from efficientvla_ros.acceleration.plan import ExecutionPlan
from efficientvla_ros.acceleration.profile import CalibrationProfile
from efficientvla_ros.runtime.latency_budget import LatencyBudget, check_budget, percentile
from efficientvla_ros.runtime.policies import Policy
from efficientvla_ros.runtime.runners import Acceleration, Runners

Warm = Callable[[Policy, int], Sequence[float]]
"""Runs a policy so many times and returns the durations, seconds."""


class PlanSwitch:
    """Holds the policy in force.

    One thread runs ticks; it calls `begin` and `follow`, which never wait for another plan being
    prepared. Everything else may be called from any thread.
    """

    def __init__(self, runners: Runners, warm: Warm, acceleration: Acceleration) -> None:
        """Makes the first policy, without warming it up."""
        self._runners, self._warm = runners, warm
        self._changing, self._swapping = Lock(), Lock()
        self._policy, _ = runners.get(acceleration)
        self._fresh = True
        self._budget: LatencyBudget | None = None
        self._candidates: dict[str, Policy] = {}

    @property
    def policy(self) -> Policy:
        """Runs the next tick."""
        return self._policy

    @property
    def budget(self) -> LatencyBudget | None:
        """The latency budget that chooses the policy; None where that is done by hand."""
        return self._budget

    def begin(self) -> tuple[Policy, bool]:
        """The policy that a tick runs to its end, and whether it has to forget earlier ticks."""
        with self._swapping:
            fresh, self._fresh = self._fresh, False
            return self._policy, fresh

    def restart(self) -> None:
        """Has the next tick forget earlier ones."""
        with self._swapping:
            self._fresh = True

    def use(self, acceleration: Acceleration) -> ExecutionPlan:
        """Prepares a policy and has it run from the next tick on; ends a budget.

        Raises:
            InputError: as `Runners.plan`; everything stays as it was.
        """
        with self._changing:
            return self._use(acceleration)

    def set_profile(self, profile: CalibrationProfile | None) -> None:
        """Has the present settings run by another profile, as `use`; raises likewise."""
        with self._changing:
            self._runners.set_profile(profile)
            self._use(self._policy.plan.config)

    def end_budget(self) -> None:
        """Keeps the present policy, whatever its ticks take."""
        with self._swapping:
            self._budget, self._candidates = None, {}

    def set_budget(
        self, milliseconds: float, candidates: Sequence[str], runs: int
    ) -> LatencyBudget:
        """As `Engine.set_latency_budget`."""
        seconds = check_budget(milliseconds)
        with self._changing:
            # Not those that are kept: one of them may be running.
            policies = {name: self._runners.make(name) for name in candidates}
            measured = {}
            for name, policy in policies.items():
                self._warm(policy, 2)
                measured[name] = percentile(self._warm(policy, runs))
            budget = LatencyBudget(seconds, measured)
            self._swap(policies[budget.choice], budget, policies)
        return budget

    def follow(self, policy: Policy, seconds: float) -> tuple[str, ...]:
        """Takes the duration of a tick; returns what a budget has changed, as lines to tell."""
        with self._swapping:
            budget = self._budget
            if budget is None or policy is not self._policy:
                return ()
            note = budget.observe(seconds)
            if not note:
                return ()
            self._policy, self._fresh = self._candidates[budget.choice], True
        return (note,)

    def _use(self, acceleration: Acceleration) -> ExecutionPlan:
        policy, is_new = self._runners.get(acceleration)
        if is_new:
            try:
                # Pruned ticks follow dense ones in a rehearsal.
                self._warm(policy, 2 if policy.plan.config.adapts_channels else 1)
            except BaseException:
                # Out of memory, say: what was made must not stay in it.
                self._runners.forget(policy.plan)
                raise
        self._swap(policy, None, {})
        return policy.plan

    def _swap(
        self, policy: Policy, budget: LatencyBudget | None, candidates: dict[str, Policy]
    ) -> None:
        with self._swapping:
            self._policy, self._fresh = policy, True
            self._budget, self._candidates = budget, candidates
