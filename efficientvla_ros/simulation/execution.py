"""How the simulated arm follows its controller: shared by the live node and by episodes."""

from __future__ import annotations

from efficientvla_ros.simulation.tabletop import TabletopSim
from efficientvla_ros.simulation.trajectory_controller import JointTrajectoryController

STEP_NS = round(TabletopSim.timestep * 1e9)


def advance(
    sim: TabletopSim, controller: JointTrajectoryController, now_ns: int, duration_ns: int
) -> int:
    """Runs physics while the arm follows its trajectory.

    The controller is sampled for each physics step, at the time at which the step ends.

    Args:
        sim: the simulation.
        controller: holds the trajectory; its joints are `arm.JOINT_NAMES`.
        now_ns: current time of the controller's clock, ns.
        duration_ns: how long to run; counted in whole physics steps of `STEP_NS`.

    Returns:
        The new time, ns.
    """
    for _ in range(round(duration_ns / STEP_NS)):
        now_ns += STEP_NS
        positions, _ = controller.sample(now_ns)
        sim.set_targets(positions)
        sim.step()
    return now_ns
