"""Starts engines through Ray Serve. The only folder of this package that imports ray.

A *slot* is the devices that a trial holds on one node; it has one Serve application with one replica. The
replica outlives the trial (a new one costs 5 s of imports); the engine in it does not. Only a call starts an
engine, never Serve: a replica that Serve restarts is empty, so that its trial fails instead of measuring
another engine.
"""

from serving.deployment.application import (
    SlotApplication,
    delete_application,
    devices_of_actor,
    start_serve,
)

__all__ = ["SlotApplication", "delete_application", "devices_of_actor", "start_serve"]
