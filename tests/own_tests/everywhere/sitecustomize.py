"""Start-up hook on the path of petastorm's own tests: its workers and Spark's import petastorm as sparkml does."""

import sys

from sparkml.compat.petastorm import _PetastormFinder, _stand_ins

sys.meta_path.insert(0, _PetastormFinder())
# The tests' conftest.py imports petastorm.spark, which sparkml does not: it asks for one name more.
vars(_stand_ins()["pyarrow"])["LocalFileSystem"] = _stand_ins()["pyarrow.filesystem"].LocalFileSystem
