"""Models of a Hugging Face hub: fetched once per node into the cache that the engines read, and checked."""
