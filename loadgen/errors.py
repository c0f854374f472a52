"""How a load fails as a whole. A failed request is a record, not an exception.

LoadError
├── BadTarget              the URL can't be used
├── BadWorkload            requests can't be built: a file, a row, a tokenizer
├── ShardLost              a worker process of the load generator is gone, or does not answer
├── ShardFailed            an exception in a worker process: what it measured can't be trusted
├── EndpointUnreachable    the endpoint can't be reached
└── EndpointErrors         it answers, but completed no request of a level
    └── PromptRefused      ... because it refused a prompt of token ids
"""


class LoadError(Exception):
    """`str(error)` is one line."""


class BadTarget(LoadError):
    """The URL can't be used."""


class BadWorkload(LoadError, ValueError):
    """Requests can't be built: a file, a row or a tokenizer is wrong."""


class ShardLost(LoadError):
    """A worker process of the load generator is gone, or does not answer."""


class ShardFailed(LoadError):
    """An exception in a worker process: what it measured can't be trusted."""


class EndpointUnreachable(LoadError):
    """The endpoint can't be reached."""


class EndpointErrors(LoadError):
    """No request was completed. `status`: HTTP status of the last failed reply, or None; `line`: its text."""

    def __init__(self, line: str, status: int | None = None) -> None:
        super().__init__(line)
        self.line = line
        self.status = status

    def __reduce__(self) -> tuple[type["EndpointErrors"], tuple[str, int | None]]:
        return type(self), (self.line, self.status)


class PromptRefused(EndpointErrors):
    """The endpoint refused a prompt of token ids."""
