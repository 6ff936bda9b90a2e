"""The scanner against `ast` on source that is made to mislead it."""

from __future__ import annotations

import ast
import textwrap

import pytest

from sparkml.sources.formats.docstrings import parsed_docstrings, scanned_docstrings

TRAPS = {
    "nested": '''
        """module"""
        class A:
            """A"""
            def f(self, x: str = ")\\":", *, y={"a": 1}) -> "list[str]":
                """f"""
                def g(): "g on one line"
            async def h(self):
                r"""raw \\d"""
        ''',
    "definitions in strings and comments": '''
        x = """
        def not_a_function():
            \'\'\'no\'\'\'
        """
        # def nor_this(): "no"
        def real():
            # a comment first

            "yes"
        ''',
    "a block that ends before the next definition": '''
        class A:
            def f(self):
                """f"""
        if True:
            def g():
                """g is no method"""
        ''',
    "continuation lines to the left": '''
        class A:
            table = [
        1, 2,
        ]
            text = """
        left
        """
            total = 1 + \\
        2
            def f(self):
                """still a method"""
        ''',
    "what only looks like a docstring": '''
        def a(): "x".upper()
        def b():
            "x" % 1
        def c():
            f"no {1}"
        def d():
            b"no"
        def e():
            x = "no"
        def f():
            "yes"; x = 1
        def g():
            ("in brackets")
        def h():
            "two " "parts"
        def i():
            "a", "tuple"
        def j():
            "escaped \\x41\\n" # and a comment
        def k():
            u"old"
        def l():
            """three""" """ six"""
        ''',
    "white space": 'def f():\n\t"""tab"""\n\tdef g():\n\t\t"""g"""\nclass B :\n    """B"""\n',
    "blank docstring": 'def f():\n    """   """\n',
    "names beyond ascii": 'def straße():\n    """ß"""\n',
    "classdef is a name": 'classdef = 1\ndefault = 2\nasync_def = 3\ndef f():\n    "f"\n',
    "decorators": '@a("""\ndef x(): pass""")\n@b\ndef f():\n    "f"\n',
    "lambda and slices": 'x = lambda: 0\ny = x[1:2]\ndef f(a=lambda: {1: 2}):\n    "f"\n',
    "no newline at the end": 'class A: "A"',
    "windows": 'def f():\r\n    """a\r\n    b"""\r\n',
    "a quote in a triple string": "def f():\n    '''it's \"\"\" fine'''\n",
}


@pytest.mark.parametrize("name", TRAPS)
def test_finds_what_ast_finds(name: str) -> None:
    source = textwrap.dedent(TRAPS[name]).encode()
    assert scanned_docstrings(source, "m") == parsed_docstrings(source, "m")


def test_names_and_lines() -> None:
    source = b'"""m"""\nclass A:\n    def f(self):\n        """f"""\nif 1:\n    def g():\n        """g"""\n'
    found = scanned_docstrings(source, "m")
    assert found is not None
    assert [(doc.name, doc.line, doc.kind) for doc in found] == [
        ("m", 1, "module"),
        ("m.A.f", 3, "function"),
        ("m.g", 6, "function"),
    ]


@pytest.mark.parametrize(
    "source",
    [
        b"def f(:\n    'x'\n",
        b"def f)\n",
        b'x = """open\n',
        b"x = 'open\ny = 'z'\n",
        b"class A\n    'x'\n",
        b"x = (1,\n",
        b"x = 1 \\ 2\n'y'",
        b"class \\\n  A:\n    'x'\n",
    ],
)
def test_gives_up_where_it_cannot_place_something(source: bytes) -> None:
    assert scanned_docstrings(source, "m") is None


def test_the_installed_interpreter_reads_alike() -> None:
    """A few of the largest modules of the standard library, scanned and parsed."""
    for module in (ast, textwrap, pytest):
        with open(module.__file__, "rb") as file:
            source = file.read()
        expected = parsed_docstrings(source, "m")
        assert expected
        assert scanned_docstrings(source, "m") == expected
