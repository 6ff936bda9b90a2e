"""Samples of a training as a table: numbered without gaps, in equal row groups, pinned by one manifest a split."""
