"""How much GPU memory a model needs at least, from its config.json: no weights are downloaded."""
