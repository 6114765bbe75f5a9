"""Checks the import rule between the rooms of the package; prints one line for each violation.

A room is a folder below `efficientvla_ros`, or one of its modules. All import statements count,
those inside functions too, except where a rule speaks of the module level.
"""

from __future__ import annotations

import ast
import sys
from dataclasses import dataclass
from pathlib import Path

PACKAGE = 'efficientvla_ros'
ROOT = Path(__file__).resolve().parents[1]

_CORE = {'types', 'models', 'acceleration', 'runtime', 'control', 'simulation'}
ALLOWED_ROOMS: dict[str, set[str]] = {
    'types': set(),
    'models': set(),
    'acceleration': {'models'},
    'runtime': {'types', 'models', 'acceleration'},
    'control': {'types'},
    'simulation': {'types', 'control'},
    'training': _CORE,
    'evaluation': _CORE,
    'ros': _CORE | {'evaluation', 'msg'},
    'cli': _CORE | {'evaluation', 'training', 'ros'},
}
"""Room -> rooms that it may import; its own modules are always allowed."""

ROS_PACKAGES = {
    'ament_index_python',
    'builtin_interfaces',
    'control_msgs',
    'cv_bridge',
    'diagnostic_msgs',
    'geometry_msgs',
    'launch',
    'launch_ros',
    'lifecycle_msgs',
    'rcl_interfaces',
    'rclpy',
    'rosgraph_msgs',
    'rosidl_runtime_py',
    'sensor_msgs',
    'std_msgs',
    'std_srvs',
    'trajectory_msgs',
}
FORBIDDEN_LIBRARIES: dict[str, set[str]] = {
    room: (set() if room == 'ros' else ROS_PACKAGES)
    | ({'torch', 'safetensors'} if room in {'types', 'control', 'simulation'} else set())
    | ({'mujoco', 'pinocchio', 'cv2'} if room in {'types', 'models', 'acceleration'} else set())
    for room in ALLOWED_ROOMS
}
"""Room -> libraries that none of its modules may import, not even inside a function."""

TORCH_AT_START = ('models', 'acceleration', 'runtime', 'training', 'evaluation.eager_')
"""Where torch may be imported at module level: prefixes of module names below the package."""

SLOW_LIBRARIES = {'torch', 'mujoco', 'pinocchio', 'rclpy', 'matplotlib', 'av'}
"""Libraries that no module of `cli` imports at module level."""


@dataclass(frozen=True)
class Import:
    """One import: the module that it names, its line, and whether it runs when loading."""

    module: str
    line: int
    at_start: bool


def imports(tree: ast.Module, package: str) -> list[Import]:
    """Returns all imports of a parsed module that lies in `package` (dotted)."""
    found: list[Import] = []

    def visit(node: ast.AST, at_start: bool) -> None:
        if isinstance(node, ast.Import):
            found.extend(Import(alias.name, node.lineno, at_start) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ''
            if node.level:
                parents = package.split('.')[: len(package.split('.')) - node.level + 1]
                base = '.'.join([*parents, base] if base else parents)
            # `from a import b` may name a module a.b: both are looked at.
            found.extend(Import(f'{base}.{a.name}', node.lineno, at_start) for a in node.names)
        inner = at_start and not isinstance(
            node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)
        )
        if isinstance(node, ast.If) and _is_type_checking(node.test):
            inner = False
        for child in ast.iter_child_nodes(node):
            visit(child, inner)

    visit(tree, True)
    return found


def _is_type_checking(test: ast.expr) -> bool:
    name = test.attr if isinstance(test, ast.Attribute) else getattr(test, 'id', '')
    return name == 'TYPE_CHECKING'


def violations(package_folder: Path) -> list[str]:
    """Returns every violation in the package at `package_folder`, one line each."""
    found = []
    for path in sorted(package_folder.rglob('*.py')):
        relative = path.relative_to(package_folder)
        name = '.'.join(relative.with_suffix('').parts)
        where = f'{PACKAGE}/{relative.as_posix()}'
        tree = ast.parse(path.read_text(encoding='utf-8'), filename=str(path))
        package = '.'.join([PACKAGE, *relative.parent.parts])
        if path.name == '__init__.py':
            found += _init_violations(where, tree, is_root=len(relative.parts) == 1)
            continue
        for item in imports(tree, package):
            found += [f'{where}:{item.line}: {fault}' for fault in _faults(name, item)]
    return found


def _init_violations(where: str, tree: ast.Module, is_root: bool) -> list[str]:
    allowed = {'pkgutil'} if is_root else set()
    return [
        f'{where}:{item.line}: __init__.py imports {item.module}; it must stay free of imports'
        for item in imports(tree, PACKAGE)
        if item.module.split('.')[0] not in allowed
    ]


def _faults(name: str, item: Import) -> list[str]:
    """Returns what is wrong with one import in the module `name` (dotted, below the package)."""
    room = name.split('.')[0]
    if room not in ALLOWED_ROOMS:
        return [f'{room} is not a room; add it to the import rule']
    library, *rest = item.module.split('.')
    if library == PACKAGE:
        target = rest[0] if rest else ''
        if target in {room, ''} or target.startswith('__'):
            return []
        if target not in ALLOWED_ROOMS[room]:
            return [f'{room} imports {item.module}; it may import no module of {target}']
        return []
    if library in FORBIDDEN_LIBRARIES[room]:
        return [f'{room} imports {library}, which it may not use']
    if not item.at_start:
        return []
    if library == 'torch' and not name.startswith(TORCH_AT_START):
        return [f'{name} imports torch at module level; import it in the function that needs it']
    if room == 'cli' and library in SLOW_LIBRARIES:
        return [f'{name} imports {library} at module level, which slows --help down']
    return []


def main() -> int:
    """Prints the violations; returns 1 if there are any."""
    found = violations(ROOT / PACKAGE)
    print('\n'.join(found) if found else 'import rule: no violations')
    return 1 if found else 0


if __name__ == '__main__':
    sys.exit(main())
