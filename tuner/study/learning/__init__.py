"""What a study learns of its results, when, and what they cost."""
