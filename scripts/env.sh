# Makes this shell use the project's environment (bash, zsh, or sh in the repository root):
#   . scripts/env.sh
# shellcheck shell=sh

if [ -n "${BASH_VERSION:-}" ]; then
  _evla_root=$BASH_SOURCE
elif [ -n "${ZSH_VERSION:-}" ]; then
  eval '_evla_root=${(%):-%x}'
else
  _evla_root=./scripts/env.sh
fi
_evla_root=$(CDPATH='' cd "$(dirname "$_evla_root")/.." && pwd -P)

# Puts a folder first in a list of folders that is separated by colons, once.
_evla_prepend() {
  eval "_evla_old=\${$1:-}"
  case ":$_evla_old:" in
    *":$2:"*) ;;
    *) eval "export $1=\"\$2\${_evla_old:+:\$_evla_old}\"" ;;
  esac
}

if [ -f "$_evla_root/.venv/.setup/paths.sh" ]; then
  . "$_evla_root/.venv/.setup/paths.sh"
  _evla_install=$_evla_root/install/efficientvla_ros
  if [ -n "$_evla_ros" ]; then
    # shellcheck disable=SC1090,SC1091
    if [ -n "${BASH_VERSION:-}" ]; then . "$_evla_ros/setup.bash"
    elif [ -n "${ZSH_VERSION:-}" ]; then . "$_evla_ros/setup.zsh"
    else . "$_evla_ros/setup.sh"; fi
  else
    # The wheels' own start-up hook would run each interpreter a second time to set these.
    export _ROS_WHEELS_BOOTSTRAP_COMPLETE=1
    _evla_prepend AMENT_PREFIX_PATH "$_evla_root/.venv"
    _evla_prepend CMAKE_PREFIX_PATH "$_evla_root/.venv"
    case ":${LD_LIBRARY_PATH:-}:" in
      *":$_evla_libraries:"*) ;;
      *) export LD_LIBRARY_PATH="$_evla_libraries${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}" ;;
    esac
  fi
  _evla_prepend LD_LIBRARY_PATH "$_evla_install/lib"
  _evla_prepend AMENT_PREFIX_PATH "$_evla_install"
  _evla_prepend CMAKE_PREFIX_PATH "$_evla_install"
  # The source tree comes before the installed messages; __init__.py joins the two.
  _evla_prepend PYTHONPATH "$_evla_site"
  _evla_prepend PYTHONPATH "$_evla_root"
  _evla_prepend PATH "$_evla_root/.venv/bin"
  export VIRTUAL_ENV="$_evla_root/.venv"
  # Idle OpenMP threads must not spin: the simulator and the policy share the cores.
  export OMP_WAIT_POLICY="${OMP_WAIT_POLICY:-passive}"
  export MUJOCO_GL="${MUJOCO_GL:-egl}"
  _evla_status=0
else
  echo 'scripts/env.sh: there is no environment yet: run "make setup" first' >&2
  _evla_status=1
fi
unset -f _evla_prepend
unset _evla_root _evla_old _evla_install _evla_ros _evla_site _evla_libraries
# A sourced file ends with a status of its own; the variable must go too.
if [ "$_evla_status" -ne 0 ]; then unset _evla_status; return 1; fi
unset _evla_status
