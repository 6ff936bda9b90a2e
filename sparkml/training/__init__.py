"""Masked-LM pretraining of the encoder. The loop is plain torch and runs without Spark; `stage` hosts it."""
