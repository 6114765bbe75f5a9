"""Parameter files in `config/` and pages in `docs/`, made from the tables of all nodes."""

from __future__ import annotations

import argparse
from pathlib import Path

from efficientvla_ros.ros.parameters import mock_robot, policy, tabletop_arm, tabletop_sim
from efficientvla_ros.ros.parameters.table import render_markdown, render_yaml

_TABLES = (policy.TABLE, tabletop_sim.TABLE, mock_robot.TABLE)
_ROOT = Path(__file__).parents[3]


def generated_files(root: Path) -> dict[Path, str]:
    """Returns path -> content."""
    return {
        **{root / table.yaml_file: render_yaml(table) for table in _TABLES},
        **{root / table.docs_file: render_markdown(table) for table in _TABLES},
        root / tabletop_arm.YAML_FILE: tabletop_arm.render(),
    }


def main(arguments: list[str] | None = None) -> int:
    """Writes or checks the generated files; returns the exit code."""
    parser = argparse.ArgumentParser(description='Files made from the parameter tables.')
    action = parser.add_mutually_exclusive_group(required=True)
    action.add_argument('--write', action='store_true', help='renew the files')
    action.add_argument('--check', action='store_true', help='exit 1 when a file is out of date')
    parser.add_argument('--root', type=Path, default=_ROOT, help='repository root')
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
