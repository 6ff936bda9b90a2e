"""Pretrained networks from package registries, written as model directories that transformers loads."""
