"""What the user of the demo asked for, checked before anything is started."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path

from efficientvla_ros.control.config import EXECUTIONS
from efficientvla_ros.evaluation.presets import check_preset
from efficientvla_ros.simulation.goals import ALL_TASKS, TASKS
from efficientvla_ros.simulation.variation import MATCHING
from efficientvla_ros.types import InputError

NOTHING = 'none'
"""Compares with no other preset."""

CHANGES = 3
"""Scenes whose instruction is changed."""

DEFAULT_MODEL = 'tabletop-small'
DEFAULT_TASK = ALL_TASKS
DEFAULT_COMPARE = 'combined'
DEFAULT_EXECUTION, DEFAULT_EXECUTE_STEPS = 'adaptive_ensemble', 1


@dataclass(frozen=True)
class DemoOptions:
    """What the user asked for.

    Attributes:
        task: name of the task, or 'all': one after the other.
        episodes: number of episodes under each preset.
        seed: seed of the first one; every further one adds 1.
        model: name or checkpoint folder of the policy.
        preset: its acceleration.
        compare: preset under which every scene is run again, or 'none'.
        out: folder for video, report, summary and logs.
        domain_id: ROS domain.
        image_side: side of the camera image, pixels.
        min_success: share of successes that counts as working.
        start_timeout: longest wait for the policy to become active, s.
        setting: look and events of every scene.
        execution: how plans that overlap are executed.
        execute_steps: control periods between two plans.
        changes: number of scenes whose instruction is changed in mid-run.
        show_outcome: how long the end of an episode stays on the screen, s.
        video: whether the video and key frames are made.

    Raises:
        InputError: there is no such task, preset or execution, or a preset is compared with
            itself.
    """

    task: str
    episodes: int
    seed: int
    model: str
    preset: str
    compare: str
    out: Path
    domain_id: int
    image_side: int
    min_success: float
    start_timeout: float
    setting: str = MATCHING
    execution: str = DEFAULT_EXECUTION
    execute_steps: int = DEFAULT_EXECUTE_STEPS
    changes: int = CHANGES
    show_outcome: float = 1.0
    video: bool = True

    def __post_init__(self) -> None:
        """Checks what a range cannot tell."""
        if self.task not in (*TASKS, ALL_TASKS):
            expected = ', '.join((*TASKS, ALL_TASKS))
            raise InputError(f'unknown task "{self.task}", expected one of: {expected}')
        if self.execution not in EXECUTIONS:
            raise InputError(
                f'unknown execution "{self.execution}", expected one of: {", ".join(EXECUTIONS)}'
            )
        for name in self.presets:
            check_preset(name)
        if self.compare == self.preset:
            raise InputError(
                f'--compare {self.compare}: expected another preset than --preset {self.preset}'
            )

    @property
    def presets(self) -> tuple[str, ...]:
        """Presets under which every scene is run, in order."""
        return (self.preset,) if self.compare == NOTHING else (self.preset, self.compare)

    def settings(self) -> dict[str, object]:
        """The options that the summary names."""
        settings = asdict(self)
        settings['ros_domain_id'] = settings.pop('domain_id')
        for name in ('out', 'start_timeout', 'changes', 'show_outcome', 'video'):
            del settings[name]
        return settings
