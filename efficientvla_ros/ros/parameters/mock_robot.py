"""Parameters of the mock robot node."""

from __future__ import annotations

from efficientvla_ros.ros.parameters.table import Changes, ParameterTable, Spec

# fmt: off
_SPECS = (
    Spec('camera.width', 640, 'Width of the image.', unit='px', low=16, high=4096,
         changes=Changes.NEVER),
    Spec('camera.height', 480, 'Height of the image.', unit='px', low=16, high=4096,
         changes=Changes.NEVER),
    Spec('camera.rate', 30.0, 'Images per second.', unit='Hz', low=0.1, high=500.0,
         changes=Changes.NEVER),
    Spec('joints.rate', 100.0, 'Joint states per second.', unit='Hz', low=1.0, high=1000.0,
         changes=Changes.NEVER),
    Spec('instruction', 'pick the red can', 'What the robot asks for at the start.',
         changes=Changes.NEVER),
)
# fmt: on

TABLE = ParameterTable(
    'mock_robot_node', _SPECS, 'config/mock_robot.yaml', 'docs/mock_robot_parameters.md'
)
