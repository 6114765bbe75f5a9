"""The Python side alone, for pip: training, evaluation and benchmarks need no ROS 2.

colcon builds the ROS 2 package from CMakeLists.txt and does not read this file.
"""

import re
from pathlib import Path

from setuptools import find_packages, setup

HERE = Path(__file__).resolve().parent
VERSION = re.search(
    r"^__version__ = '([^']+)'",
    (HERE / 'efficientvla_ros' / '__init__.py').read_text(encoding='utf-8'),
    re.MULTILINE,
).group(1)

MODEL = [
    'huggingface_hub>=0.25', 'psutil>=5.9', 'safetensors>=0.6', 'torch>=2.4', 'transformers>=4.44',
]  # fmt: skip
SIMULATION = ['mujoco>=3.8', 'opencv-python-headless>=4.10,<5', 'pin>=3']
RECORDINGS = ['rosbags>=0.10']
REPORT = ['av>=14', 'matplotlib>=3.8', 'psutil>=5.9']

setup(
    name='efficientvla-ros',
    version=VERSION,
    description='Accelerated Vision-Language-Action models for robot arms under ROS 2',
    license='Apache-2.0',
    python_requires='>=3.10',
    packages=find_packages(include=['efficientvla_ros', 'efficientvla_ros.*']),
    package_data={'efficientvla_ros': ['ros/*.xml', 'weights/**/*']},
    install_requires=['numpy>=1.23', 'rich>=13', 'typer>=0.12'],
    extras_require={
        'model': MODEL,
        'simulation': SIMULATION,
        'recordings': RECORDINGS,
        'report': REPORT,
        'all': MODEL + SIMULATION + RECORDINGS + REPORT,
    },
    entry_points={'console_scripts': ['efficientvla = efficientvla_ros.cli.main:main']},
    zip_safe=False,
)
