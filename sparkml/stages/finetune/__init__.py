"""The stage `finetune`: documents with labels and a pretrained encoder -> a classifier."""
