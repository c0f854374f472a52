"""One model per group of `conf/`: what each YAML may say. Pure."""
