# Steps of setup_env.sh, sourced by it in the repository root.
# shellcheck shell=bash

readonly MIN_PYTHON=10 MAX_PYTHON=12  # minor versions of Python 3 that the ROS wheels exist for
readonly RENDER_PACKAGES=(libegl1 libegl-mesa0 libgl1-mesa-dri)
state=.venv/.setup

say() { printf 'setup: %s\n' "$*"; }
fail() {
  printf 'setup: %s\n' "$*" >&2
  exit 1
}

hash_text() { printf '%s\n' "$@" | sha256sum | cut -d' ' -f1; }
is_done() { [ -f "$state/$1" ] && [ "$(<"$state/$1")" = "$2" ]; }
mark_done() {
  mkdir -p "$state"
  printf '%s\n' "$2" >"$state/$1.new"
  mv "$state/$1.new" "$state/$1"
}

# Sets ros_prefix to the apt ROS 2 to use, or to nothing for the wheels, and requirement_files.
choose_ros() {
  local base=${EFFICIENTVLA_ROS_ROOT-/opt/ros} distro
  ros_prefix=''
  if [ -n "$base" ] && [ -n "${ROS_DISTRO:-}" ]; then
    ros_prefix=$base/$ROS_DISTRO
    [ -f "$ros_prefix/setup.bash" ] || fail "ROS_DISTRO is '$ROS_DISTRO', but there is no" \
      "$ros_prefix/setup.bash. Unset ROS_DISTRO to use the ROS 2 wheels instead."
  elif [ -n "$base" ]; then
    for distro in kilted jazzy humble; do
      if [ -f "$base/$distro/setup.bash" ]; then
        ros_prefix=$base/$distro
        break
      fi
    done
  fi
  if [ -n "$ros_prefix" ]; then
    requirement_files=(requirements.txt requirements-dev.txt requirements-ros-apt.txt)
  else
    requirement_files=(requirements.txt requirements-dev.txt requirements-ros.txt)
  fi
}

# Sets python to the interpreter that .venv is made from, and python_version.
choose_python() {
  local candidate candidates found made_for
  if [ -z "${PYTHON:-}" ] && [ -f "$state/interpreter" ]; then
    # An environment that exists stays with its interpreter, whatever PATH now finds first.
    { read -r python; read -r python_version; read -r made_for; } <"$state/interpreter" || true
    if [ -x "$python" ] && [ "$made_for" = "ros:$ros_prefix" ]; then return; fi
  fi
  if [ -n "${PYTHON:-}" ]; then
    candidates=("$PYTHON")
  elif [ -n "$ros_prefix" ]; then
    candidates=(/usr/bin/python3)  # the one that the distribution's packages are compiled for
  else
    candidates=(python3 python3.12 python3.11 python3.10)
  fi
  for candidate in "${candidates[@]}"; do
    # A shell with .venv active must lead to the interpreter below it, not to .venv itself.
    if found=$("$candidate" -c 'import os, sys
print(os.path.realpath(getattr(sys, "_base_executable", sys.executable)))
print(sys.version.split()[0])
sys.exit(not (3, int(sys.argv[1])) <= sys.version_info[:2] <= (3, int(sys.argv[2])))' \
      "$MIN_PYTHON" "$MAX_PYTHON" 2>/dev/null); then
      { read -r python; read -r python_version; } <<<"$found"
      return
    fi
  done
  fail "needs Python 3.$MIN_PYTHON to 3.$MAX_PYTHON; none of these is one: ${candidates[*]}." \
    'Name one with PYTHON=/path/to/python3.'
}

# Prints what the build depends on: contents where they are compiled in, names where installed
# files are links to the tree.
build_inputs() {
  cat CMakeLists.txt package.xml msg/*.msg
  find efficientvla_ros launch config scripts -type f -not -path '*/__pycache__/*' \
    -not -name '*.py[co]' 2>/dev/null | LC_ALL=C sort
}

# Prints the Debian packages that are missing.
missing_packages() {
  local package name
  for package in "${RENDER_PACKAGES[@]}"; do
    dpkg-query -W -f='${Status}' "$package" 2>/dev/null | grep -q 'ok installed' || echo "$package"
  done
  command -v cmake >/dev/null || echo cmake
  command -v c++ >/dev/null || echo g++
  "$python" -c 'import ensurepip, venv' 2>/dev/null || echo python3-venv
  "$python" -c 'import os, sys, sysconfig
sys.exit(not os.path.exists(os.path.join(sysconfig.get_paths()["include"], "Python.h")))' \
    || echo python3-dev
  if [ -n "$ros_prefix" ]; then
    command -v colcon >/dev/null || echo python3-colcon-common-extensions
    for name in $(ros_dependencies); do
      [ -d "$ros_prefix/share/$name" ] || echo "ros-${ros_prefix##*/}-${name//_/-}"
    done
  fi
}

# Prints the ROS packages that package.xml names, without rosdep's keys for system packages.
ros_dependencies() {
  sed -nE 's:.*<[a-z_]*depend>([a-z0-9_]+)</[a-z_]*depend>.*:\1:p' package.xml | sort -u
}

# Installs what is missing. Where it cannot, says so and fails: the rest can still go on.
install_system_packages() {
  local missing as_root=()
  [ "${EFFICIENTVLA_SKIP_APT:-0}" != 1 ] || return 0
  if ! command -v apt-get >/dev/null || ! command -v dpkg-query >/dev/null; then
    say 'No apt-get here: rendering needs EGL from Mesa; building needs CMake, a C++ compiler' \
      'and the Python headers. Please install what is missing.'
    return 0
  fi
  mapfile -t missing < <(missing_packages)
  [ ${#missing[@]} -gt 0 ] || return 0
  if [ "$(id -u)" -ne 0 ]; then
    if ! command -v sudo >/dev/null || { [ ! -t 0 ] && ! sudo -n true 2>/dev/null; }; then
      say 'Cannot become root to install system packages. Please run:' \
        "apt-get install ${missing[*]}"
      return 1
    fi
    as_root=(sudo)
  fi
  say "Installing system packages: ${missing[*]}"
  if ! { "${as_root[@]}" apt-get update -qq \
    && "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq \
      --no-install-recommends "${missing[@]}"; } >"$apt_log" 2>&1; then
    tail -n 3 "$apt_log" >&2
    say "apt-get could not install them (log: $apt_log). Please run:" \
      "apt-get install ${missing[*]}"
    return 1
  fi
}
apt_log=${TMPDIR:-/tmp}/efficientvla_ros_apt_$(id -u).log

make_environment() {
  local options=()
  say "Making .venv with $python${ros_prefix:+ over $ros_prefix}"
  rm -rf .venv build install log
  if [ -n "$ros_prefix" ]; then options=(--system-site-packages); fi
  "$python" -m venv "${options[@]}" .venv || fail "could not make a virtual environment with" \
    "$python. On Debian and Ubuntu: apt-get install python3-venv"
  mkdir -p "$state"
  printf '%s\n' "$python" "$python_version" "ros:$ros_prefix" >"$state/interpreter"
}

install_requirements() {
  local arguments=(--disable-pip-version-check) file
  [ -t 1 ] || arguments+=(-qq)  # progress bars are for people
  say "Installing ${requirement_files[*]} (minutes)"
  for file in "${requirement_files[@]}"; do arguments+=(-r "$file"); done
  in_environment python -m pip install "${arguments[@]}"
  in_environment python -m pip install -qq --disable-pip-version-check --no-deps \
    --no-build-isolation --editable .
  if [ -z "$ros_prefix" ]; then in_environment python scripts/repoint_exports.py; fi
}

build_package() {
  local log=build/colcon_output.log begin=$SECONDS
  say 'Building the package with colcon'
  mkdir -p build
  if ! in_environment colcon --log-base log build --symlink-install --base-paths . \
    --packages-select efficientvla_ros --event-handlers console_direct+ \
    --cmake-args -DPython3_EXECUTABLE="$root/.venv/bin/python" >"$log" 2>&1; then
    tail -n 30 "$log" >&2
    fail "colcon build failed (log: $log)"
  fi
  write_paths
  say "Built in $((SECONDS - begin)) s"
}

# Runs a command in .venv with the chosen ROS 2 below it and no overlay of ours on top.
in_environment() (
  unset PYTHONPATH PYTHONHOME
  if [ -n "$ros_prefix" ]; then
    unset AMENT_PREFIX_PATH CMAKE_PREFIX_PATH
    set +u  # the distributions' setup files use unset variables
    source "$ros_prefix/setup.bash"
    set -u
  else
    export AMENT_PREFIX_PATH=$root/.venv CMAKE_PREFIX_PATH=$root/.venv
  fi
  export VIRTUAL_ENV=$root/.venv PATH=$root/.venv/bin:$PATH
  "$@" 9<&-
)

# Writes what scripts/env.sh cannot know by itself.
write_paths() {
  local site
  site=$(find install/efficientvla_ros -type d -path '*-packages/efficientvla_ros' | head -n 1)
  [ -n "$site" ] || fail 'colcon build left no Python package under install/'
  {
    printf '_evla_ros=%q\n' "$ros_prefix"
    printf '_evla_site=%q\n' "$root/${site%/efficientvla_ros}"
    if [ -z "$ros_prefix" ]; then
      printf '_evla_libraries=%q\n' "$(library_folders)"
    else
      printf '_evla_libraries=\n'
    fi
  } >"$state/paths.sh"
}

# Prints the wheels' library folders, joined with colons.
library_folders() {
  local folder list=$root/.venv/lib
  for folder in "$root"/.venv/lib/python3*/site-packages/ros_*.libs; do list+=:$folder; done
  printf '%s' "$list"
}
