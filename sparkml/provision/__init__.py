"""Set-up of a machine: `python3 -m sparkml.provision`, on a plain Python without any package.

The steps in their order (`setup.py`): tools, venv, uv, packages, torch, horovod, sparkml, jars. Each one
is skipped when its inputs have not changed, and each one may be killed at any point and repeated.
"""
