"""The ways in which a load can fail as a whole. One failed request is a record, not an exception.

LoadError
├── BadTarget              the URL is not one that can be loaded
├── BadWorkload            what is to be sent can't be made: a file, a row, a tokenizer
├── ShardLost              a process of the load generator itself is gone
├── EndpointUnreachable    nobody answers there, or no longer
└── EndpointErrors         it answers, but not one request of a level was completed
    └── PromptRefused      ... and what it refused was a prompt of token ids
"""


class LoadError(Exception):
    """`str(error)` is one line."""


class BadTarget(LoadError): ...


class BadWorkload(LoadError, ValueError): ...


class ShardLost(LoadError): ...


class EndpointUnreachable(LoadError): ...


class EndpointErrors(LoadError):
    """`status` is the HTTP status of the last failed reply, or None; `line` what it said."""

    def __init__(self, line: str, status: int | None = None) -> None:
        super().__init__(line)
        self.line = line
        self.status = status

    def __reduce__(self) -> tuple[type["EndpointErrors"], tuple[str, int | None]]:
        return type(self), (self.line, self.status)


class PromptRefused(EndpointErrors): ...
