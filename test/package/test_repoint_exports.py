"""The wheels' CMake export files lead to this machine's headers, however often it is done."""

from __future__ import annotations

from pathlib import Path

import pytest
import repoint_exports

PYTHON, NUMPY = '/usr/include/python3.12', '/a folder/numpy/_core/include'
EXPORT = (
    'set_target_properties(std_msgs::std_msgs__rosidl_generator_py PROPERTIES\n'
    '  INTERFACE_INCLUDE_DIRECTORIES "/opt/python/cp312-cp312/include/python3.12;'
    '/opt/python/cp312-cp312/lib/python3.12/site-packages/numpy/_core/include;'
    '${_IMPORT_PREFIX}/include/std_msgs"\n)\n'
)


@pytest.fixture
def share(tmp_path) -> Path:
    for package in ('std_msgs', 'sensor_msgs'):
        folder = tmp_path / package / 'cmake'
        folder.mkdir(parents=True)
        (folder / f'export_{package}__rosidl_generator_pyExport.cmake').write_text(EXPORT)
        (folder / f'{package}Config.cmake').write_text('set(a "/opt/other/include")\n')
    return tmp_path


def test_both_folders_are_replaced_and_nothing_else(share):
    assert repoint_exports.repoint_tree(share, PYTHON, NUMPY) == 2
    text = next(share.glob('std_msgs/cmake/export*')).read_text()
    assert f'"{PYTHON};{NUMPY};${{_IMPORT_PREFIX}}/include/std_msgs"' in text
    assert (
        next(share.glob('std_msgs/cmake/*Config*')).read_text() == 'set(a "/opt/other/include")\n'
    )


def test_second_time_changes_nothing(share):
    repoint_exports.repoint_tree(share, PYTHON, NUMPY)
    before = {path: path.stat().st_mtime_ns for path in share.rglob('*.cmake')}
    assert repoint_exports.repoint_tree(share, PYTHON, NUMPY) == 0
    assert {path: path.stat().st_mtime_ns for path in share.rglob('*.cmake')} == before


def test_no_scratch_files_stay(share):
    repoint_exports.repoint_tree(share, PYTHON, NUMPY)
    assert not list(share.rglob('*.new'))
