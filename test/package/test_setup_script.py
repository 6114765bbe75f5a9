"""`make setup` picks the right ROS 2, repeats only what changed and survives interruptions.

The script runs for real in a small copy of the tree. Only the slow programs are stand-ins that
write down how they were called: the interpreter behind the virtual environment, pip and colcon.
"""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]

PYTHON = """#!/bin/sh
# Stand-in for an interpreter: makes environments of stand-ins, writes pip's arguments down.
case "$1 $2" in
  *_base_executable*) printf '%s\\n' "$0" 3.11.0 ;;
  '-c '*) ;;
  '-m venv')
    echo "venv $*" >>"$CALLS"
    for folder; do :; done
    mkdir -p "$folder/bin" "$folder/lib/python3.11/site-packages/ros_rcl.libs"
    cp "$0" "$folder/bin/python"
    cp "$(dirname "$0")/colcon" "$folder/bin/colcon" ;;
  '-m pip')
    echo "pip $*" >>"$CALLS"
    if [ -n "$BREAK_PIP" ]; then exit 1; fi ;;
  *) echo "python $*" >>"$CALLS" ;;
esac
"""
COLCON = """#!/bin/sh
echo "colcon AMENT=$AMENT_PREFIX_PATH FAKE=$FAKE_ROS PYTHONPATH=$PYTHONPATH" >>"$CALLS"
if [ -n "$BREAK_COLCON" ]; then echo 'CMake Error: something'; exit 1; fi
mkdir -p install/efficientvla_ros/lib/python3.11/site-packages/efficientvla_ros
"""


class Tree:
    """A copy of what setup needs, in a folder with a space in its name."""

    def __init__(self, folder: Path) -> None:
        self.root = folder / 'a clone'
        self.calls_file = folder / 'calls'
        for name in ('scripts', 'msg'):
            shutil.copytree(
                ROOT / name, self.root / name, ignore=shutil.ignore_patterns('__pycache__')
            )
        (self.root / 'efficientvla_ros').mkdir()
        files = ['CMakeLists.txt', 'package.xml', 'setup.py']
        for name in files + [path.name for path in ROOT.glob('requirements*.txt')]:
            shutil.copy(ROOT / name, self.root / name)
        self.tools = folder / 'tools'
        self.tools.mkdir()
        for name, text in (('python', PYTHON), ('colcon', COLCON)):
            (self.tools / name).write_text(text)
            (self.tools / name).chmod(0o755)
        self.ros = folder / 'ros'

    def add_distribution(self, name: str) -> None:
        folder = self.ros / name
        folder.mkdir(parents=True)
        text = f'export FAKE_ROS={name} ROS_DISTRO={name} PYTHONPATH=/{name}/python\n'
        text += f'export AMENT_PREFIX_PATH=/{name}${{AMENT_PREFIX_PATH:+:$AMENT_PREFIX_PATH}}\n'
        text += 'echo "$UNSET_BY_PURPOSE" >/dev/null\n'
        for suffix in ('bash', 'sh', 'zsh'):
            (folder / f'setup.{suffix}').write_text(text)

    def environment(self, **more: str) -> dict[str, str]:
        return {
            'PATH': '/usr/bin:/bin',
            'HOME': str(self.root),
            'PYTHON': str(self.tools / 'python'),
            'CALLS': str(self.calls_file),
            'EFFICIENTVLA_ROS_ROOT': str(self.ros),
            'EFFICIENTVLA_SKIP_APT': '1',
            'PIP_NO_INDEX': '1',  # should a stand-in be passed by, nothing is downloaded
            **more,
        }

    def setup(self, **more: str) -> tuple[subprocess.CompletedProcess[str], list[str]]:
        """Runs the script; returns its result and the stand-ins' calls."""
        self.calls_file.write_text('')
        result = subprocess.run(
            [str(self.root / 'scripts' / 'setup_env.sh')],
            env=self.environment(**more),
            capture_output=True,
            text=True,
            timeout=60,
            stdin=subprocess.DEVNULL,
        )
        return result, self.calls_file.read_text().splitlines()

    def calls(self, **more: str) -> list[str]:
        result, calls = self.setup(**more)
        assert result.returncode == 0, result.stderr
        return calls

    def shell(self, command: str, shell: str = 'bash', **more: str) -> str:
        result = subprocess.run(
            [shell, '-c', command],
            env=self.environment(**more),
            cwd=self.root,
            capture_output=True,
            text=True,
            timeout=60,
        )
        return result.stdout + result.stderr


@pytest.fixture
def tree(tmp_path) -> Tree:
    if not shutil.which('bash') or not shutil.which('sha256sum'):
        pytest.skip('needs bash and sha256sum')
    return Tree(tmp_path)


def kinds(calls: list[str]) -> list[str]:
    return [call.split()[0] for call in calls]


def test_without_ros_the_wheels_are_installed_and_repointed(tree):
    calls = tree.calls()
    assert kinds(calls) == ['venv', 'pip', 'pip', 'python', 'colcon']
    assert '--system-site-packages' not in calls[0]
    assert '-r requirements-ros.txt' in calls[1]
    assert 'repoint_exports.py' in calls[3]
    assert f'AMENT={tree.root}/.venv ' in calls[4]


def test_distribution_is_used_with_its_own_packages(tree):
    tree.add_distribution('jazzy')
    calls = tree.calls()
    assert kinds(calls) == ['venv', 'pip', 'pip', 'colcon']
    assert '--system-site-packages' in calls[0]
    assert '-r requirements.txt' in calls[1]
    assert 'requirements-ros.txt' not in calls[1]
    assert 'AMENT=/jazzy FAKE=jazzy PYTHONPATH=/jazzy/python' in calls[3]


def test_ros_distro_chooses_among_distributions(tree):
    tree.add_distribution('humble')
    tree.add_distribution('kilted')
    assert 'FAKE=humble' in tree.calls(ROS_DISTRO='humble')[-1]
    assert 'FAKE=kilted' in tree.calls()[-1]


def test_empty_ros_root_asks_for_the_wheels(tree):
    tree.add_distribution('kilted')
    assert 'requirements-ros.txt' in tree.calls(EFFICIENTVLA_ROS_ROOT='')[1]


def test_missing_distribution_is_one_clear_line(tree):
    result, calls = tree.setup(ROS_DISTRO='foxy')
    assert result.returncode != 0
    assert calls == []
    assert result.stderr.count('\n') == 1
    assert "ROS_DISTRO is 'foxy'" in result.stderr
    assert f'{tree.ros}/foxy/setup.bash' in result.stderr


def test_unusable_interpreter_is_one_clear_line(tree):
    result, _ = tree.setup(PYTHON='/nonexistent/python3')
    assert result.returncode != 0
    assert 'needs Python 3.10 to 3.12' in result.stderr
    assert '/nonexistent/python3' in result.stderr


def test_second_run_does_nothing(tree):
    tree.calls()
    result, calls = tree.setup()
    assert calls == []
    assert result.stdout == ''


def test_existing_environment_keeps_its_interpreter(tree):
    tree.calls()
    assert tree.calls(PYTHON='') == []


@pytest.mark.parametrize(
    ('file', 'repeated'),
    [
        ('msg/PolicyStatus.msg', ['colcon']),
        ('CMakeLists.txt', ['colcon']),
        ('requirements.txt', ['pip', 'pip', 'python', 'colcon']),
    ],
)
def test_only_what_changed_is_repeated(tree, file, repeated):
    tree.calls()
    with (tree.root / file).open('a') as stream:
        stream.write('\n# changed\n')
    assert kinds(tree.calls()) == repeated
    assert tree.calls() == []


def test_new_launch_file_is_installed_and_a_changed_one_is_a_link_already(tree):
    (tree.root / 'launch').mkdir()
    tree.calls()
    (tree.root / 'launch' / 'a.launch.py').write_text('')
    assert kinds(tree.calls()) == ['colcon']
    (tree.root / 'launch' / 'a.launch.py').write_text('# changed')
    assert tree.calls() == []


def test_interrupted_installation_starts_with_a_fresh_environment(tree):
    result, _ = tree.setup(BREAK_PIP='1')
    assert result.returncode != 0
    (tree.root / '.venv' / 'half').write_text('')
    assert kinds(tree.calls())[0] == 'venv'
    assert not (tree.root / '.venv' / 'half').exists()


def test_failed_build_is_shown_and_repeated(tree):
    result, _ = tree.setup(BREAK_COLCON='1')
    assert result.returncode != 0
    assert 'CMake Error: something' in result.stderr
    assert kinds(tree.calls()) == ['colcon']


def test_moved_tree_is_set_up_anew(tree):
    tree.calls()
    tree.root = tree.root.rename(tree.root.parent / 'moved')
    assert kinds(tree.calls())[0] == 'venv'


def test_shell_before_setup_says_what_to_do(tree):
    assert 'run "make setup" first' in tree.shell('. scripts/env.sh; echo "status $?"')
    assert 'status 1' in tree.shell('. scripts/env.sh; echo "status $?"')


@pytest.mark.parametrize('shell', ['bash', 'sh', 'zsh'])
def test_shell_has_environment_overlay_and_source_tree(tree, shell):
    if not shutil.which(shell):
        pytest.skip(f'{shell} is not installed')
    tree.calls()
    output = tree.shell(
        '. scripts/env.sh; . scripts/env.sh; echo "$PYTHONPATH"; echo "$AMENT_PREFIX_PATH";'
        ' echo "$LD_LIBRARY_PATH"; command -v python; echo "$MUJOCO_GL $OMP_WAIT_POLICY"',
        shell,
    )
    python_path, ament_path, library_path, python, settings = output.splitlines()
    root, install = tree.root, tree.root / 'install' / 'efficientvla_ros'
    assert python_path == f'{root}:{install}/lib/python3.11/site-packages'
    assert ament_path == f'{install}:{root}/.venv'
    wheels = f'{root}/.venv/lib/python3.11/site-packages/ros_rcl.libs'
    assert library_path == f'{install}/lib:{root}/.venv/lib:{wheels}'
    assert python == f'{root}/.venv/bin/python'
    assert settings == 'egl passive'


def test_shell_on_a_distribution_sources_it_first(tree):
    tree.add_distribution('humble')
    tree.calls()
    output = tree.shell('. scripts/env.sh; echo "$AMENT_PREFIX_PATH"; echo "$PYTHONPATH"')
    ament_path, python_path = output.splitlines()
    assert ament_path == f'{tree.root}/install/efficientvla_ros:/humble'
    assert python_path.startswith(f'{tree.root}:')
    assert python_path.endswith(':/humble/python')


def test_shell_keeps_the_users_settings(tree):
    tree.calls()
    output = tree.shell('. scripts/env.sh; echo "$MUJOCO_GL"', MUJOCO_GL='osmesa')
    assert output == 'osmesa\n'


@pytest.fixture
def without_root(tree) -> Tree:
    """A machine with apt-get, where packages are missing and nobody can become root."""
    (tree.root / 'bin').mkdir()
    stubs = {'id': 'echo 1000', 'sudo': 'exit 1', 'dpkg-query': 'exit 1', 'apt-get': 'exit 9'}
    for name, body in stubs.items():
        (tree.root / 'bin' / name).write_text(f'#!/bin/sh\n{body}\n')
        (tree.root / 'bin' / name).chmod(0o755)
    return tree


def test_system_packages_that_cannot_be_installed_are_named(without_root):
    settings = {'PATH': f'{without_root.root}/bin:/usr/bin:/bin', 'EFFICIENTVLA_SKIP_APT': '0'}
    result, calls = without_root.setup(**settings)
    assert result.returncode == 0
    assert 'Cannot become root' in result.stdout
    assert 'apt-get install libegl1 libegl-mesa0 libgl1-mesa-dri' in result.stdout
    assert kinds(calls)[-1] == 'colcon'
    assert without_root.calls(**settings) == []


def test_missing_packages_of_the_distribution_are_named(without_root):
    without_root.add_distribution('jazzy')
    (without_root.ros / 'jazzy' / 'share' / 'rclpy').mkdir(parents=True)
    settings = {'PATH': f'{without_root.root}/bin:/usr/bin:/bin', 'EFFICIENTVLA_SKIP_APT': '0'}
    result, _ = without_root.setup(**settings)
    assert 'ros-jazzy-sensor-msgs' in result.stdout
    assert 'ros-jazzy-rclpy' not in result.stdout
    assert 'ros-jazzy-python3' not in result.stdout


def test_root_installs_what_is_missing_without_sudo(without_root):
    tools = without_root.root / 'bin'
    (tools / 'id').write_text('#!/bin/sh\necho 0\n')
    (tools / 'apt-get').write_text('#!/bin/sh\necho "apt-get $*" >>"$CALLS"\n')
    calls = without_root.calls(PATH=f'{tools}:/usr/bin:/bin', EFFICIENTVLA_SKIP_APT='0')
    assert calls[0].startswith('apt-get update')
    assert calls[1].startswith('apt-get install -y')
    assert 'libegl1 libegl-mesa0 libgl1-mesa-dri' in calls[1]


def test_failed_installation_is_said_and_tried_again(without_root):
    tools = without_root.root / 'bin'
    (tools / 'id').write_text('#!/bin/sh\necho 0\n')
    settings = {'PATH': f'{tools}:/usr/bin:/bin', 'EFFICIENTVLA_SKIP_APT': '0'}
    result, calls = without_root.setup(**settings)
    assert 'apt-get could not install them' in result.stdout
    assert kinds(calls)[-1] == 'colcon'
    assert not (without_root.root / '.venv' / '.setup' / 'system').exists()
