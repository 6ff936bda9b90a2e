"""Runs one function on many ranks: a Spark barrier stage hosts them, Horovod or torch.distributed joins them.

    driver      launcher   checks the slots, starts the barrier stage, tries again when an attempt ends badly
                hub        hears from every rank: logs, progress, heartbeat; says who died or hangs
    executor    supervisor one barrier task a rank: meets its peers, starts the rank, passes on what it says
    process     rank       runs the function with a Collective and a Reporter

The function itself knows nothing of Spark: `fn(payload, collective, reporter) -> result`, JSON in and out.
"""
