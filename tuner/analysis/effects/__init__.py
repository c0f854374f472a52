"""What each change from the default brings, with an interval, and which changes are enough."""
