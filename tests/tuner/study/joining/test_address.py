"""Addresses of clusters that are wrong: one line each, within seconds."""

import socket

import pytest

from tuner.study.capacity import ClusterError
from tuner.study.joining.address import address_of, authenticated


def test_nobody_listens() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
        with pytest.raises(
            ClusterError, match=f"no Ray cluster at 127.0.0.1:{port}: Connection ref"
        ):
            address_of(f"127.0.0.1:{port}")


@pytest.mark.parametrize("address", ["head", "head:", "head:x", "head:99999", ":6379"])
def test_no_address(address: str) -> None:
    with pytest.raises(ClusterError, match="expected HOST:PORT"):
        address_of(address)


def test_ray_client_and_job_addresses_are_refused() -> None:
    with pytest.raises(ClusterError, match="give HOST:PORT of the head"):
        address_of("ray://head:10001")


@pytest.mark.thorough
def test_something_else_listens() -> None:
    """It accepts, and never says a word."""
    with socket.create_server(("127.0.0.1", 0)) as mute:
        address = address_of(f"127.0.0.1:{mute.getsockname()[1]}")
        with (
            pytest.raises(ClusterError, match="does not answer as a Ray cluster"),
            authenticated(address),
        ):
            pass
