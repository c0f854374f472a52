"""An engine for the length of a with block, in a container or not, and its command line as it is shown."""

from serving.launch.contained import check_container
from serving.launch.launched import LaunchSpec, Running, launched
from serving.launch.located import executable, version_here
from serving.launch.shown import HOST, plan_command, shell_command

__all__ = [
    "HOST",
    "LaunchSpec",
    "Running",
    "check_container",
    "executable",
    "launched",
    "plan_command",
    "shell_command",
    "version_here",
]
