"""Set-up of a machine: `python3 -B tools/setup`, on a plain Python without any package.

The steps in their order (`steps.py`): environment, horovod, sparkml, jars. Each is skipped when its inputs have not
changed, and each may be killed at any point and repeated.
"""
