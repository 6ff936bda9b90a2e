"""Pretrained networks from package registries, as model directories that transformers and `finetune.model` take."""
