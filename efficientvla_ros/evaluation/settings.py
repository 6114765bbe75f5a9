"""What an evaluation runs."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass

from efficientvla_ros.control.config import EXECUTIONS
from efficientvla_ros.types import InputError

EXPERT = 'expert'
"""Model name that stands for the scripted expert: the upper bound of the control path."""


@dataclass(frozen=True)
class EvaluationSettings:
    """Settings of an evaluation; they decide its result, up to the speed of the machine.

    Attributes:
        task: task of every episode.
        episodes: number of episodes.
        seed: of the first episode; the others follow one by one.
        model: embedded model, checkpoint folder, or 'expert'.
        device: of the model, cpu or cuda.
        ddim_steps: sampling steps, None for the model's own.
        guidance: classifier-free guidance scale, None for the model's own.
        execute_steps: control periods between two plans.
        latency: from an observation to the arrival of its command, s.
        swap_instruction: ask for the first distractor instead of the episode's target.
        swap_step: control period from which on the swapped instruction holds.
        camera_shift_px: how far the camera is turned, in pixels of a 112-pixel image; the
            direction is drawn from the seed.
        camera_size: side of the rendered image, pixels.
        profile: calibration profile of the model; None takes the one beside its weights.
        execution: how overlapping plans are executed, one of `control.config.EXECUTIONS`.
        setting: look and events of every episode: matching, variants or dynamic.
    """

    task: str = 'pick'
    episodes: int = 100
    seed: int = 1_000_000
    model: str = 'tabletop-small'
    device: str = 'cpu'
    ddim_steps: int | None = None
    guidance: float | None = None
    execute_steps: int = 3
    latency: float = 0.1
    swap_instruction: bool = False
    swap_step: int = 0
    camera_shift_px: float = 0.0
    camera_size: int = 224
    profile: str | None = None
    execution: str = 'replan'
    setting: str = 'matching'

    def __post_init__(self) -> None:
        """Checks the values.

        Raises:
            InputError: names the setting, its value and what was expected.
        """
        self._require('episodes', self.episodes >= 1, 'at least 1')
        self._require('seed', self.seed >= 0, 'at least 0')
        self._require('execute_steps', 1 <= self.execute_steps <= 64, '1 .. 64')
        self._require('latency', 0.0 <= self.latency <= 10.0, 'seconds in [0, 10]')
        self._require('swap_step', self.swap_step >= 0, 'at least 0')
        self._require('execution', self.execution in EXECUTIONS, f'one of {EXECUTIONS}')
        shift = self.camera_shift_px
        self._require('camera_shift_px', math.isfinite(shift) and shift >= 0.0, 'at least 0')

    def _require(self, name: str, valid: bool, expected: str) -> None:
        if not valid:
            raise InputError(f'{name} is {getattr(self, name)!r}, expected {expected}')

    @property
    def seeds(self) -> range:
        """Seeds of all episodes."""
        return range(self.seed, self.seed + self.episodes)

    def episode_key(self) -> dict:
        """Returns what decides the result of the episode of a seed."""
        values = asdict(self)
        del values['episodes'], values['seed']
        return values
