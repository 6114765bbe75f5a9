#!/usr/bin/env bash
# Runs a command in a ROS domain of its own that is heard on this machine only.
set -euo pipefail

if [ -z "${ROS_DOMAIN_ID:-}" ]; then
  ROS_DOMAIN_ID=$(python -c \
    'from efficientvla_ros.cli.demo_processes import free_domain; print(free_domain())')
fi
export ROS_DOMAIN_ID
if [ "${ROS_DISTRO:-}" = humble ]; then
  export ROS_LOCALHOST_ONLY=1
else
  export ROS_AUTOMATIC_DISCOVERY_RANGE=LOCALHOST
fi
exec "$@"
