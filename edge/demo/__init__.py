"""A trained model, clips and a config, so that the product runs on any laptop."""
