"""What the trials of a study will take: speed of the engine, its start, and draws of whole studies."""
