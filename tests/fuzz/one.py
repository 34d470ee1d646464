"""``python -m tests.fuzz.one TARGET CORPUS [libFuzzer options]``: one target under atheris; started by ``run``."""

from __future__ import annotations

import sys

import atheris

with atheris.instrument_imports(include=['engine']):
    from tests.fuzz.targets import TARGETS


def main() -> None:
    """Never returns: libFuzzer ends the process."""
    name = sys.argv.pop(1)
    atheris.Setup(sys.argv, TARGETS[name])
    atheris.Fuzz()


if __name__ == '__main__':
    main()
