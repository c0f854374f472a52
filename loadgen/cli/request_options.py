"""The options of `python -m loadgen` that change what is sent: fields of the body, headers, certificates."""

import argparse
import json
from pathlib import Path
from typing import Any


def override_options(group: "argparse._ArgumentGroup") -> None:
    """Adds the options."""
    add = group.add_argument
    text = "field of the request body to set, in JSON, as in priority=1; repeatable"
    add("--body", action="append", default=[], metavar="NAME=VALUE", help=text)
    text = "send a field under another name, as in max_tokens=max_completion_tokens; repeatable"
    add("--rename-field", action="append", default=[], metavar="OLD=NEW", help=text)
    text = "field of the usual body to leave out, as in ignore_eos; repeatable"
    add("--drop-field", action="append", default=[], metavar="NAME", help=text)
    text = "header to send, as in 'X-Tenant: a'; NAME: $VARIABLE for secrets; repeatable"
    add("--header", action="append", default=[], metavar="NAME: VALUE", help=text)
    add("--ca-file", type=Path, metavar="FILE", help="certificates (PEM) to trust as well")
    add("--client-cert", type=Path, metavar="FILE", help="client certificate with its key (PEM)")


def overrides(args: argparse.Namespace) -> dict[str, Any]:
    """The changes to requests that the options ask for. Raises ValueError with the option's name."""
    headers = dict(_pair("--header", text, ":") for text in args.header)
    secret = {name: value[1:] for name, value in headers.items() if value.startswith("$")}
    made = {
        "body": {n: _json(v) for n, v in (_pair("--body", text, "=") for text in args.body)},
        "rename": dict(_pair("--rename-field", text, "=") for text in args.rename_field),
        "drop": args.drop_field,
        "headers": {name: value for name, value in headers.items() if name not in secret},
        "headers_from_env": secret,
        "ca_file": args.ca_file,
        "client_cert": args.client_cert,
    }
    return {name: value for name, value in made.items() if value}


def merged(given: Any, changes: dict[str, Any]) -> dict[str, Any]:
    """The changes over those of a workload file."""
    made: dict[str, Any] = dict(given) if isinstance(given, dict) else {}
    for name, value in changes.items():
        before = made.get(name)
        both = isinstance(before, dict) and isinstance(value, dict)
        made[name] = dict(before or {}) | value if both else value
    return made


def _pair(option: str, text: str, mark: str) -> tuple[str, str]:
    name, found, value = text.partition(mark)
    if not found or not name.strip():
        raise ValueError(f"{option}: expected NAME{mark}VALUE, got {text!r}")
    return name.strip(), value.strip()


def _json(text: str) -> Any:
    """A value in JSON; what is no JSON is text."""
    try:
        return json.loads(text)
    except ValueError:
        return text
