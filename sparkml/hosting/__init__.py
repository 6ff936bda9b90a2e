"""The Spark side of learning: examples of a table, samples in equal row groups with manifests, ranks, figures.

What is learnt and how is plain torch (`tasks`, `models`, `training`); here it gets its data and its processes.
"""
