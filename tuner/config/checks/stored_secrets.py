"""Secrets in a configuration, which is stored with the study, printed and mirrored: all are refused. Pure."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from serving.process.environ import has_password, names_secret, secret_option

REFERENCE = "${oc.env:"
TRACKING = (
    "tracking.uri: its password would be stored with the study: leave it out, and set "
    "MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD (or MLFLOW_TRACKING_TOKEN) in the environment"
)
ARGUMENTS = ("extra_args", "passthrough_args")
# Tool → its options that are followed by a password or a key.
IPMI_SECRETS = {"ipmitool": ("-P", "-k", "-y"), "ipmi-dcmi": ("-p", "-k", "--password", "--k-g")}


def stored_secrets(data: Mapping[Any, Any]) -> Iterator[str]:
    """One line for each secret in a study, as composed or as saved: where it is, and what would be right."""
    for kind, engine in _items(data.get("engine")):
        yield from _of_engine(kind, engine)
    for name, source in _items(_inside(data, "power", "sources")):
        command = _words(source.get("command") if isinstance(source, Mapping) else None)
        if option := _ipmi_secret(command):
            yield (
                f"power.sources.{name}.command: the value of {option} would be stored with the study, and "
                "seen in the process list: use `ipmitool -E` with IPMI_PASSWORD in the environment, or -f"
            )
    for path, text in _texts(data, ""):
        if has_password(text):
            where = "in its place use a server that asks for none, or one behind a proxy"
            yield (
                TRACKING
                if path == "tracking.uri"
                else (f"{path}: the password in this URL would be stored with the study: {where}")
            )


def _of_engine(kind: str, engine: Any) -> Iterator[str]:
    for name, value in _items(engine.get("env") if isinstance(engine, Mapping) else None):
        if _is_stored_secret(name, value):
            yield (
                f"engine.{kind}.env.{name}: its value would be stored with the study: remove it, set "
                f"{name} in the environment, and pass it on: engine.{kind}.env_passthrough=[{name}]"
            )
    for key in ARGUMENTS:
        words = _words(engine.get(key) if isinstance(engine, Mapping) else None)
        if option := secret_option(words):
            yield (
                f"engine.{kind}.{key}: the value of {option} would be stored with the study, and seen in "
                f"the process list: use the variable that stands for it (engine.{kind}.env_passthrough)"
            )
    for name in _container_secrets(engine):
        yield (
            f"engine.{kind}.container.args: the value of {name} would be stored with the study, and seen "
            f"in the process list: set {name} in the environment, and pass it on: "
            f"engine.{kind}.env_passthrough=[{name}]"
        )


def _container_secrets(engine: Any) -> Iterator[str]:
    """The secret variables to which the arguments of a container's runtime give a value: `--env HF_TOKEN=…`."""
    for word in _words(_inside(engine, "container", "args")):
        name, _, value = word.removeprefix("--env=").removeprefix("-e").partition("=")
        if value and names_secret(name.strip()):
            yield name.strip()


def _is_stored_secret(name: str, value: Any) -> bool:
    text = "" if value is None else str(value)
    return (names_secret(name) and bool(text)) or REFERENCE in text


def _ipmi_secret(command: Sequence[str]) -> str:
    """The option of an IPMI tool, anywhere in a command such as `sudo ipmitool …`, that gives a secret."""
    for index, word in enumerate(command):
        for option in IPMI_SECRETS.get(word.rpartition("/")[2], ()):
            if any(each.startswith(option) for each in command[index + 1 :]):
                return option
    return ""


def _inside(data: Any, *path: str) -> Any:
    for key in path:
        data = data.get(key) if isinstance(data, Mapping) else None
    return data


def _items(value: Any) -> list[tuple[str, Any]]:
    return [(str(k), v) for k, v in value.items()] if isinstance(value, Mapping) else []


def _words(value: Any) -> list[str]:
    return [str(each) for each in value] if isinstance(value, list | tuple) else []


def _texts(value: Any, path: str) -> Iterator[tuple[str, str]]:
    """Each string with its dotted path."""
    if isinstance(value, str):
        yield path, value
    elif isinstance(value, Mapping):
        for key, inner in value.items():
            yield from _texts(inner, f"{path}.{key}" if path else str(key))
    elif isinstance(value, list | tuple):
        for index, inner in enumerate(value):
            yield from _texts(inner, f"{path}.{index}")
