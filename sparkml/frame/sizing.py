"""How many groups a stage works in: a function of the input's bytes alone, never of the cluster.

A small input gets buckets of a comfortable size. From a thousand of them on, their number stays and they grow: each
costs the shuffle a block of every input task. When they are as large as a task should be, there are more of them again.

    bytes of text     buckets of 4 MB to 128 MB
    3 MB              1
    100 MB            25
    10 GB             1,024 of 10 MB
    1 TB              7,813 of 128 MB
"""

from __future__ import annotations

_COMFORTABLE = 1024
MOST_BUCKETS = 1 << 16


def bucket_count(n_bytes: int, *, from_bytes: int, to_bytes: int) -> int:
    """Buckets for `n_bytes`, each of `from_bytes` in a small input and of `to_bytes` in a very large one."""
    small, large = -(-n_bytes // from_bytes), -(-n_bytes // to_bytes)
    return min(max(min(small, _COMFORTABLE), large, 1), MOST_BUCKETS)
