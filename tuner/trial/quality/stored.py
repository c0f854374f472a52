"""Reads what a trial has left in its folder, which may be damaged."""

from pathlib import Path
from typing import TypeVar

from pydantic import BaseModel, ValidationError

Kind = TypeVar("Kind", bound=BaseModel)


def stored(path: Path, kind: type[Kind], most_bytes: int) -> Kind | str:
    """The JSON file as this kind, or in a line why it is not."""
    try:
        if path.stat().st_size > most_bytes:
            return f"{path.name} is larger than {most_bytes >> 20} MiB"
        return kind.model_validate_json(path.read_bytes())
    except FileNotFoundError:
        return f"{path.name} is missing"
    except OSError as error:
        return f"{path.name}: {error.strerror}"
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False, include_context=False)[0]
        where = ".".join(map(str, first["loc"]))
        return f"{path.name} is damaged: {where + ': ' if where else ''}{first['msg']}"
