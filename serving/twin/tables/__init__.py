"""Step times by GPU, framework, model and layout, and the catalogue of models."""
