"""Checks package.xml, the messages and the version numbers; prints one line for each fault."""

from __future__ import annotations

import re
import sys
import xml.etree.ElementTree as ET
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
BUILD_TOOLS = {'ament_cmake', 'ament_cmake_python', 'rosidl_default_generators'}
FIELD = re.compile(r'^\S+\s+\w+(\s*=\s*\S+)?\s*(?P<comment>#.*)?$')


def message_faults(name: str, text: str) -> list[str]:
    """Returns the fields and constants of a message definition that have no comment."""
    faults = []
    for number, line in enumerate(text.splitlines(), start=1):
        line = line.strip()
        if not line or line.startswith('#'):
            continue
        match = FIELD.match(line)
        if match is None:
            faults.append(f'{name}:{number}: "{line}" is not "type name  # comment"')
        elif not (match['comment'] or '').lstrip('# '):
            faults.append(f'{name}:{number}: "{line}" has no comment with its unit or meaning')
    return faults


def manifest_faults(text: str) -> list[str]:
    """Returns what is wrong with a package.xml of a package with messages and Python."""
    try:
        package = ET.fromstring(text)
    except ET.ParseError as error:
        return [f'package.xml: not well-formed ({error})']
    faults = []
    if package.get('format') != '3':
        faults.append('package.xml: format is not 3')
    for tag in ('name', 'version', 'description', 'maintainer', 'license'):
        element = package.find(tag)
        if element is None or not (element.text or '').strip():
            faults.append(f'package.xml: <{tag}> is missing or empty')
    maintainer = package.find('maintainer')
    if maintainer is not None and not re.match(r'^\S+@\S+\.\S+$', maintainer.get('email', '')):
        faults.append('package.xml: <maintainer> has no usable email')
    groups = [element.text for element in package.iter('member_of_group')]
    if 'rosidl_interface_packages' not in groups:
        faults.append('package.xml: not a member_of_group rosidl_interface_packages')
    tools = {element.text for element in package.iter('buildtool_depend')}
    faults += [
        f'package.xml: no <buildtool_depend>{name}</buildtool_depend>'
        for name in sorted(BUILD_TOOLS - tools)
    ]
    if 'rosidl_default_runtime' not in {e.text for e in package.iter('exec_depend')}:
        faults.append('package.xml: no <exec_depend>rosidl_default_runtime</exec_depend>')
    build_type = package.find('export/build_type')
    if build_type is None or build_type.text != 'ament_cmake':
        faults.append('package.xml: <build_type> is not ament_cmake')
    return faults


def catkin_faults(path: Path) -> list[str]:
    """Returns what catkin_pkg, which colcon reads the file with, says against it."""
    try:
        from catkin_pkg.package import InvalidPackage, parse_package
    except ImportError:
        return []
    warnings: list[str] = []
    try:
        parse_package(str(path), warnings=warnings)
    except InvalidPackage as error:
        return [f'package.xml: {error}']
    return [f'package.xml: {warning}' for warning in warnings]


def versions(root: Path) -> dict[str, str]:
    """Returns the version number by the file that states it."""
    module = (root / 'efficientvla_ros' / '__init__.py').read_text(encoding='utf-8')
    stated = re.search(r"^__version__ = '([^']+)'", module, re.MULTILINE)
    manifest = ET.parse(root / 'package.xml').findtext('version', default='')
    return {'package.xml': manifest, '__init__.py': stated[1] if stated else ''}


def faults(root: Path) -> list[str]:
    """Returns everything that is wrong with the package in the folder `root`."""
    found = manifest_faults((root / 'package.xml').read_text(encoding='utf-8'))
    found += catkin_faults(root / 'package.xml')
    for path in sorted((root / 'msg').glob('*.msg')):
        found += message_faults(f'msg/{path.name}', path.read_text(encoding='utf-8'))
    stated = versions(root)
    if len(set(stated.values())) != 1:
        found.append(f'version numbers differ: {stated}')
    return found


def main() -> int:
    """Prints the faults; returns 1 if there are any."""
    found = faults(ROOT)
    print('\n'.join(found) if found else 'package.xml, messages and version numbers: no faults')
    return 1 if found else 0


if __name__ == '__main__':
    sys.exit(main())
