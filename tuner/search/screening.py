"""A shorter measurement for trials that only have to show whether they are contenders. Pure."""
