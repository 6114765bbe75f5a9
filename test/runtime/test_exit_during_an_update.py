"""A program that ends while channels are being chosen ends as usual."""

from __future__ import annotations

import subprocess
import sys

PROGRAM = """
import numpy as np
from efficientvla_ros.runtime.engine import load_engine
from efficientvla_ros.types import Observation

engine = load_engine('tabletop-pick', acceleration='ecovla_40')
image = np.full((224, 224, 3), 90, np.uint8)
engine.infer(Observation({'camera': image}, 'pick the red can', 0))
"""


def test_the_process_is_not_aborted():
    result = subprocess.run(
        [sys.executable, '-c', PROGRAM], capture_output=True, text=True, timeout=100
    )
    assert result.returncode == 0, result.stderr
