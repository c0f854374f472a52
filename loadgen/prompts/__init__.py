"""What requests say, and how long they are."""
