"""Networks, tokenizers, model folders, the registry of models and the scorer."""
