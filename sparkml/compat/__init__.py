"""What old releases need on today's stack, one file each. Only these modules import petastorm and horovod."""
