# The environment for working in this checkout. For bash or zsh, after `make setup`:
#   . tools/env.sh
# What you have set yourself is kept.

_robollm_root="$(cd "$(dirname "${BASH_SOURCE[0]:-$0}")/.." && pwd)"
. "$_robollm_root/.venv/bin/activate"

# A sourced ROS 2 is used as it is. ROS 2 from pip lives in the venv, but doesn't say so.
if [ -z "${ROS_DISTRO:-}" ]; then
  case ":${AMENT_PREFIX_PATH:-}:" in
    *":$VIRTUAL_ENV:"*) ;;
    *) export AMENT_PREFIX_PATH="$VIRTUAL_ENV${AMENT_PREFIX_PATH:+:$AMENT_PREFIX_PATH}" ;;
  esac
fi

# Images between processes: without these Fast DDS is several times slower at 1080p. The profile
# wins where both apply; LARGE_DATA is for programs that don't read it.
export FASTDDS_BUILTIN_TRANSPORTS="${FASTDDS_BUILTIN_TRANSPORTS:-LARGE_DATA}"
export FASTDDS_DEFAULT_PROFILES_FILE="${FASTDDS_DEFAULT_PROFILES_FILE:-$_robollm_root/config/fastdds.xml}"

# Nobody else's robot: this machine only, and a domain (1 to 101) of this checkout's own.
export ROS_AUTOMATIC_DISCOVERY_RANGE="${ROS_AUTOMATIC_DISCOVERY_RANGE:-LOCALHOST}"
export ROS_DOMAIN_ID="${ROS_DOMAIN_ID:-$(($(printf %s "$_robollm_root" | cksum | cut -d' ' -f1) % 101 + 1))}"
export ROS_LOG_DIR="${ROS_LOG_DIR:-$_robollm_root/.cache/ros_log}"
unset _robollm_root
