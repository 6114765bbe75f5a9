"""A trained policy as the one who acts while demonstrations are recorded."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from efficientvla_ros.evaluation.presets import DENSE, apply_preset
from efficientvla_ros.types import Observation


def make_actor(model: str, preset: str = DENSE) -> Callable[[np.ndarray, str], np.ndarray]:
    """Loads a policy in this process, with one thread.

    Args:
        model: embedded model or checkpoint folder.
        preset: acceleration preset that it runs by.

    Returns:
        A function from image uint8 [height, width, 3] and instruction to actions [steps, 7].

    Raises:
        InputError: the model cannot be used, or not by this preset.
    """
    from efficientvla_ros.runtime.engine import load_engine

    engine = load_engine(model, threads=1)
    if preset != DENSE:
        apply_preset(engine, preset)
    engine.warm_up()

    def act(image: np.ndarray, instruction: str) -> np.ndarray:
        observation = Observation({engine.camera_names[0]: image}, instruction, stamp_ns=0)
        return engine.infer(observation)[0].actions

    return act
