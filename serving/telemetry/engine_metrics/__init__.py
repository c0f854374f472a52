"""What an engine reports of itself: its metrics page, and the times of its start in its log."""
