"""What the presets are for every known model, as a file to look up.

`python -m efficientvla_ros.acceleration.presets_file` prints `config/presets.yaml`.
"""

from __future__ import annotations

from collections.abc import Iterator

from efficientvla_ros.acceleration.config import AccelerationConfig
from efficientvla_ros.acceleration.presets import PRESETS, preset
from efficientvla_ros.models.config import CONFIGS

_HEADER = """\
# Settings of the acceleration presets by model: published fractions of its own counts.
# Settings that are not named are off. For looking up: changing this file changes nothing.
# Made by `python -m efficientvla_ros.acceleration.presets_file > config/presets.yaml`.
"""


def presets_text() -> str:
    """The file's content, YAML."""
    return _HEADER + '\n'.join(_lines()) + '\n'


def settings_that_are_on(config: AccelerationConfig) -> dict[str, object]:
    """Those that differ from the default."""
    default = AccelerationConfig().to_dict()
    return {name: value for name, value in config.to_dict().items() if value != default[name]}


def _lines() -> Iterator[str]:
    for model, config in CONFIGS.items():
        yield f'{model}:'
        for name in PRESETS:
            found = settings_that_are_on(preset(name, config))
            yield f'  {name}: {{{", ".join(f"{key}: {value}" for key, value in found.items())}}}'


if __name__ == '__main__':
    print(presets_text(), end='')
