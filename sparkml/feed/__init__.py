"""From a pinned manifest to micro batches: who reads which row groups, and the readers.

manifest = Manifest.from_json(text)               # files, row groups and rows of one Delta version
plan = epoch_plan(manifest, epoch=0, seed=17, world_size=2, micro_batch=32)
for batch in micro_batches(ArrowReader(manifest), plan, rank=0, first_step=0):
    batch.input_ids                               # int32 [rows, sequence_length]
"""
