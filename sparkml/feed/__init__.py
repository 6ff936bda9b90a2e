"""From a pinned manifest to micro batches: who reads which row groups, and the readers.

    manifest = pinned.read()                          # files, row groups and rows of one Delta version
    plan = epoch_plan(manifest, epoch=0, seed=17, world_size=2, micro_batch=32)
    reader = open_reader("arrow", {"input_ids": manifest.sequence_length})
    for batch in micro_batches(reader, plan, rank=0):
        batch.columns["input_ids"]                    # int32 [rows, sequence_length]

Every rank does this with its own number; the plan is the same on all of them.
"""
