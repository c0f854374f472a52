"""Slots: the actors that run trials one after another, and how the driver watches them."""
