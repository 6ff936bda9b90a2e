"""The tests. What they share is rewritten by pytest too, so that its assertions say what they saw."""

import pytest

pytest.register_assert_rewrite("tests.kills", "tests.processes", "tests.way")
