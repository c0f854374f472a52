"""Decides which load runs when: levels, arrival times, stopping, on the wall clock and on a virtual one."""
