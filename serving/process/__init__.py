"""Process trees that end with their owner, `kill -9` included."""
