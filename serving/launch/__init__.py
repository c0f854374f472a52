"""The engines of a trial for the length of a with block, in containers or not, and their command lines."""

from serving.launch.contained import check_container
from serving.launch.gang import launched
from serving.launch.launched import LaunchSpec, Running
from serving.launch.located import executable, version_here
from serving.launch.shown import HOST, NEXT, for_shell, plan_command, shell_command

__all__ = [
    "HOST",
    "NEXT",
    "LaunchSpec",
    "Running",
    "check_container",
    "executable",
    "for_shell",
    "launched",
    "plan_command",
    "shell_command",
    "version_here",
]
