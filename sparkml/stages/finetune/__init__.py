"""The stage `finetune`: a labelled table and a model to start from -> a model that answers."""
