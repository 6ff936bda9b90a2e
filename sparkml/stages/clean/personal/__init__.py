"""Personal data and secrets in a text: where they are, by kind, and what stands there instead."""
