"""``python -m tests.fuzz.run --seconds 60 [--target stanzas ...]``: coverage-guided fuzzing with atheris.

Every target runs in a process of its own. A finding is printed, and its input written to ``tests/fuzz/findings/``; the
exit code is then 1. Where atheris is not installed the targets get random mutations instead, and that is said.
"""

from __future__ import annotations

import argparse
import importlib.util
import random
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Iterator
from pathlib import Path

HERE = Path(__file__).resolve().parent
CORPUS = HERE / 'corpus'
FINDINGS = HERE / 'findings'
LONGEST = 4096


def inputs(name: str) -> list[bytes]:
    """Seeds and kept inputs of a target."""
    from tests.fuzz.targets import SEEDS

    kept = sorted((CORPUS / name).glob('*')) if (CORPUS / name).is_dir() else []
    return [*SEEDS[name], *(path.read_bytes() for path in kept)]


def mutated(name: str, chance: random.Random) -> Iterator[bytes]:
    """Endless random variations of the inputs of a target."""
    known = inputs(name)
    pieces = [b'<', b'>', b'/>', b"'", b'"', b'&', b'\0', b'\xff', b'@', b'/', b'\\20', b'-', b'9' * 40, b"xmlns='x'"]
    while True:
        data = bytearray(chance.choice(known))
        for _ in range(chance.randrange(1, 5)):
            at = chance.randrange(len(data) + 1)
            match chance.randrange(5):
                case 0:
                    data[at:at] = chance.choice(pieces)
                case 1:
                    del data[at : at + chance.randrange(1, 9)]
                case 2:
                    data[at : at + 1] = bytes([chance.randrange(256)])
                case 3:
                    other = chance.choice(known)
                    data[at:] = other[chance.randrange(len(other) + 1) :]
                case _:
                    data[at:at] = data[chance.randrange(len(data) + 1) :][:64]
        yield bytes(data[:LONGEST])


def _without_atheris(name: str, seconds: float) -> bool:
    from tests.fuzz.targets import TARGETS

    end, count = time.monotonic() + seconds, 0
    for data in mutated(name, random.Random()):
        count += 1
        try:
            TARGETS[name](data)
        except Exception:
            traceback.print_exc()
            FINDINGS.mkdir(exist_ok=True)
            path = FINDINGS / f'{name}-{abs(hash(data)):x}'
            path.write_bytes(data)
            print(f'{name}: FINDING after {count} inputs, kept as {path}: {data!r}')
            return False
        if time.monotonic() > end:
            break
    print(f'{name}: {count} random inputs, no finding')
    return True


def _with_atheris(name: str, seconds: float) -> bool:
    FINDINGS.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        for number, data in enumerate(inputs(name)):
            (Path(folder) / str(number)).write_bytes(data)
        command = [
            sys.executable, '-m', 'tests.fuzz.one', name, folder, f'-max_total_time={int(seconds)}',
            f'-max_len={LONGEST}', f'-artifact_prefix={FINDINGS}/{name}-', '-timeout=10', '-print_final_stats=1',
        ]  # fmt: skip
        ended = subprocess.run(command, cwd=HERE.parents[1], capture_output=True, text=True, check=False)
    if ended.returncode:
        print(f'{name}: FINDING\n{ended.stdout[-3000:]}\n{ended.stderr[-3000:]}')
        return False
    lines = ended.stderr.splitlines()
    count = next((line.split()[-1] for line in lines if 'number_of_executed_units' in line), '?')
    coverage = next((part for line in reversed(lines) if ' cov: ' in line for part in [line.split(' cov: ')[1]]), '?')
    print(f'{name}: {count} inputs, {coverage.split()[0]} edges covered, no finding')
    return True


def main() -> int:
    """Run the targets one after the other."""
    from tests.fuzz.targets import TARGETS

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--seconds', type=float, default=60, help='for each target')
    parser.add_argument('--target', action='append', choices=sorted(TARGETS), default=[])
    options = parser.parse_args()
    guided = importlib.util.find_spec('atheris') is not None
    if not guided:
        print(
            '*** atheris is not installed: random mutations only, far weaker. pip install -r requirements-test.txt ***'
        )
    run = _with_atheris if guided else _without_atheris
    results = [run(name, options.seconds) for name in options.target or sorted(TARGETS)]
    return 0 if all(results) else 1


if __name__ == '__main__':
    sys.exit(main())
