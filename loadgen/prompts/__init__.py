"""What requests contain, and how long they are."""
