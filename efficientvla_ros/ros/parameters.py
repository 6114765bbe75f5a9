"""Parameters of the policy node.

`python -m efficientvla_ros.ros.parameters --write` renews the parameter files in `config/` and
the pages in `docs/` from the tables of all nodes; `--check` only says whether they agree.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping
from functools import partial
from pathlib import Path

from efficientvla_ros.ros import acceleration_parameters
from efficientvla_ros.ros.parameter_table import (
    Changes,
    ParameterTable,
    Settings,
    Spec,
    Value,
    render_markdown,
    render_yaml,
)
from efficientvla_ros.types import InputError

_ARM = ['waist', 'shoulder', 'elbow', 'forearm_roll', 'wrist_angle', 'wrist_rotate']

# One parameter a block reads better than one argument a line.
# fmt: off
_SPECS: tuple[Spec, ...] = (
    Spec(
        'autostart', False,
        'The node configures and activates itself after it has started.',
        changes=Changes.NEVER,
    ),
    Spec(
        'model.path', 'tabletop',
        'Name of a model whose weights are in the package, or path of a checkpoint folder or '
        '.pt file.',
        changes=Changes.CONFIGURE,
    ),
    Spec(
        'model.device', 'cpu',
        'Device that runs the model: cpu, cuda or cuda:<index>.',
        changes=Changes.CONFIGURE,
    ),
    Spec(
        'model.dtype', 'auto',
        'Number type of the weights; auto takes float32 on a CPU and bfloat16 on CUDA. The '
        'diffusion head always runs in float32.',
        choices=('auto', 'float32', 'bfloat16'), changes=Changes.CONFIGURE,
    ),
    Spec(
        'model.tokenizer', '',
        'Folder with the tokenizer.json of the model; empty looks in the checkpoint folder.',
        changes=Changes.CONFIGURE,
    ),
    Spec(
        'model.unnorm_key', '',
        'Data set whose statistics turn the output of the model into metres and radians; empty '
        'takes the only one that the checkpoint has.',
        changes=Changes.CONFIGURE,
    ),
    Spec(
        'model.use_ema', False,
        'Take the averaged weights of the diffusion head, where the checkpoint has them.',
        changes=Changes.CONFIGURE,
    ),
    Spec(
        'model.random_weights', False,
        'Build the model without its weights, to measure latency; model.path may then be any '
        'name that the package knows. The arm moves at random.',
        changes=Changes.CONFIGURE,
    ),
    Spec(
        'model.threads', 1, 'CPU threads of one inference.',
        low=1, high=256, changes=Changes.CONFIGURE,
    ),
    Spec(
        'model.ddim_steps', 0,
        'Denoising steps of the diffusion head; 0 takes the number stored with the model.',
        low=0, high=1000, changes=Changes.CONFIGURE,
    ),
    Spec(
        'model.guidance', 0.0,
        'Classifier-free guidance scale; 0 takes the value stored with the model.',
        low=0.0, high=20.0, changes=Changes.CONFIGURE,
    ),
    *acceleration_parameters.SPECS,
    *acceleration_parameters.AUDIT_SPECS,
    Spec(
        'cameras.names', ['camera'],
        'Cameras in the order of the model; each one is heard on `<name>/image_raw`. '
        'The stamp of the first one is the stamp of the observation.',
        changes=Changes.NEVER,
    ),
    Spec(
        'cameras.compressed', [False],
        'Hear `<name>/image_raw/compressed` (CompressedImage) instead; one value for each '
        'camera, or one for all.',
        changes=Changes.NEVER,
    ),
    Spec(
        'control.rate', 0.0,
        'Inferences per second; 0 derives it: 1 / (execute_steps x step duration of the model).',
        unit='Hz', low=0.0, high=200.0,
    ),
    Spec(
        'control.execute_steps', 3,
        'Actions of a plan that are meant to be executed before the next plan replaces it; at '
        'most as many as a plan has.',
        low=1, high=64,
    ),
    Spec(
        'control.base_frame', 'base_link',
        'Link in which actions are expressed; also the frame_id of what is published.',
        changes=Changes.NEVER,
    ),
    Spec(
        'control.tcp_frame', 'tcp', 'Link that the actions move.', changes=Changes.NEVER
    ),
    Spec(
        'control.joints', _ARM,
        'Joints of the arm, without the gripper, as they are called in robot_description.',
        changes=Changes.NEVER,
    ),
    Spec(
        'command.interface', 'joint_trajectory',
        'How the arm is commanded: JointTrajectory on `joint_trajectory`.',
        choices=('joint_trajectory',), changes=Changes.NEVER,
    ),
    Spec(
        'gripper.interface', 'joint_trajectory',
        'How the gripper is commanded: as one more joint of `joint_trajectory`, by a '
        'JointTrajectory of its own or by a Float64MultiArray (on change) on '
        '`gripper_command`, or not at all.',
        choices=('joint_trajectory', 'trajectory', 'position', 'none'), changes=Changes.NEVER,
    ),
    Spec('gripper.joint', 'gripper', 'Joint of the gripper.', changes=Changes.NEVER),
    Spec(
        'gripper.open_value', 0.045, 'Position of the gripper joint when open.',
        unit='m or rad', low=-10.0, high=10.0,
    ),
    Spec(
        'gripper.close_value', 0.0, 'Position of the gripper joint when closed.',
        unit='m or rad', low=-10.0, high=10.0,
    ),
    Spec(
        'gripper.threshold', 0.5,
        'The gripper opens when the action (1 open, 0 closed) is above this.',
        low=0.01, high=0.99,
    ),
    Spec(
        'gripper.hysteresis', 0.0,
        'Half width of the band around the threshold in which the gripper stays as it was.',
        low=0.0, high=0.49,
    ),
    Spec(
        'safety.max_image_age', 0.5,
        'The arm is held when the newest image of a camera is older than this.',
        unit='s', low=0.01, high=60.0,
    ),
    Spec(
        'safety.max_joint_state_age', 0.5,
        'The arm is held when the newest joint state is older than this.',
        unit='s', low=0.01, high=60.0,
    ),
    Spec(
        'safety.max_joint_velocity', 2.0, 'Limit of every arm joint, on top of the URDF.',
        unit='rad/s or m/s', low=0.001, high=100.0,
    ),
    Spec(
        'safety.max_step_translation', 0.06,
        'Longest translation of the tool in one action; longer ones are shortened.',
        unit='m', low=0.0001, high=1.0,
    ),
    Spec(
        'safety.max_step_rotation', 0.5,
        'Largest rotation of the tool in one action; larger ones are reduced.',
        unit='rad', low=0.0001, high=3.2,
    ),
    Spec(
        'safety.workspace_min', [0.05, -0.4, 0.0],
        'Lower corner of the box that the tool stays in, in the base frame (x, y, z).',
        unit='m', low=-100.0, high=100.0, length=3,
    ),
    Spec(
        'safety.workspace_max', [0.6, 0.4, 0.5],
        'Upper corner of the box that the tool stays in, in the base frame (x, y, z).',
        unit='m', low=-100.0, high=100.0, length=3,
    ),
    Spec(
        'safety.max_reach_error', 0.05,
        'The arm is held when the closest pose it can reach is further from the wanted one.',
        unit='m', low=0.001, high=1.0,
    ),
    Spec(
        'safety.max_instruction_length', 256, 'Longest instruction that is accepted.',
        unit='characters', low=1, high=4096,
    ),
    Spec(
        'safety.hold_duration', 0.2,
        'Time in which the arm comes to rest when it is held.',
        unit='s', low=0.01, high=5.0,
    ),
    Spec(
        'safety.max_failures', 10,
        'Inferences in a row without a usable plan (not finite, or an error) after which the '
        'node stays held until `~/reset`.',
        low=1, high=10000,
    ),
)
# fmt: on


def _check_together(values: Mapping[str, Value]) -> None:
    """Checks what one parameter alone cannot tell."""
    acceleration_parameters.check_together(values)
    for name in ('cameras.names', 'control.joints'):
        names = values[name]
        if '' in names or len(set(names)) != len(names):
            raise InputError(f'parameter {name}: got {names}, expected names without repetition')
    cameras, flags = values['cameras.names'], values['cameras.compressed']
    if len(flags) not in (1, len(cameras)):
        raise InputError(
            f'parameter cameras.compressed: got {len(flags)} values, expected 1 or '
            f'{len(cameras)}, one for each name in cameras.names'
        )
    low, high = values['safety.workspace_min'], values['safety.workspace_max']
    if any(a >= b for a, b in zip(low, high, strict=True)):
        raise InputError(
            f'parameter safety.workspace_min: got {low}, expected less than '
            f'safety.workspace_max {high} on every axis'
        )
    if values['gripper.open_value'] == values['gripper.close_value']:
        raise InputError(
            f'parameter gripper.open_value: got {values["gripper.open_value"]}, expected a '
            'value other than gripper.close_value'
        )
    if values['gripper.joint'] in values['control.joints']:
        raise InputError(
            f'parameter gripper.joint: got "{values["gripper.joint"]}", expected a joint that '
            'is not in control.joints'
        )


TABLE = ParameterTable(
    'policy_node', _SPECS, 'config/policy.yaml', 'docs/parameters.md', _check_together
)


def compressed_flags(settings: Settings) -> tuple[bool, ...]:
    """For every camera: whether it is heard compressed."""
    flags = settings['cameras.compressed']
    names = settings['cameras.names']
    return tuple(flags) if len(flags) == len(names) else tuple(flags) * len(names)


def engine_options(settings: Settings) -> dict[str, object]:
    """Keyword arguments of `load_engine` that follow from the parameters."""
    return {
        'model': settings['model.path'],
        'device': settings['model.device'],
        'dtype': settings['model.dtype'],
        'threads': settings['model.threads'],
        'tokenizer': settings['model.tokenizer'] or None,
        'unnorm_key': settings['model.unnorm_key'] or None,
        'use_ema': settings['model.use_ema'],
        'random_weights': settings['model.random_weights'],
        'num_ddim_steps': settings['model.ddim_steps'] or None,
        'guidance': settings['model.guidance'] or None,
        'acceleration': partial(acceleration_parameters.acceleration_config, settings),
        'profile': settings['acceleration.profile'] or None,
        'only_kept_layers': settings['acceleration.only_kept_layers'],
    }


def generated_files(root: Path) -> dict[Path, str]:
    """Returns path -> content of the files made from the tables of all nodes."""
    from efficientvla_ros.ros import tabletop_sim_parameters

    tables = (TABLE, tabletop_sim_parameters.TABLE)
    return {
        **{root / table.yaml_file: render_yaml(table) for table in tables},
        **{root / table.docs_file: render_markdown(table) for table in tables},
    }


def main(arguments: list[str] | None = None) -> int:
    """Writes or checks the generated files; returns the exit code."""
    parser = argparse.ArgumentParser(description='Files made from the parameter tables.')
    action = parser.add_mutually_exclusive_group(required=True)
    action.add_argument('--write', action='store_true', help='renew the files')
    action.add_argument('--check', action='store_true', help='exit 1 when a file is out of date')
    parser.add_argument(
        '--root', type=Path, default=Path(__file__).parents[2], help='repository root'
    )
    options = parser.parse_args(arguments)
    code = 0
    for path, text in generated_files(options.root).items():
        if options.write:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding='utf-8')
        elif not path.is_file() or path.read_text(encoding='utf-8') != text:
            print(f'{path}: out of date, run python -m efficientvla_ros.ros.parameters --write')
            code = 1
    return code


if __name__ == '__main__':
    sys.exit(main())
