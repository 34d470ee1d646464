"""The suite's own ground: servers answer, data is committed and removed again, unknown rows are refused."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psycopg
import pytest

from tests import conformance
from tests.fixtures.processes import ROOT
from tests.fixtures.servers import environment
from tests.proves import proves


@pytest.mark.parametrize('turn', [1, 2])
def test_data_is_committed_and_removed(db: None, make_user, turn: int) -> None:
    from impadmin.ucm.models import EndUser

    assert not EndUser.objects.exists()
    make_user('alice')
    with psycopg.connect(environment()['DATABASE_URL']) as other:
        assert other.execute('SELECT user_id, im_address FROM end_user').fetchall() == [('alice', 'alice@example.com')]


def test_unknown_row_is_refused() -> None:
    with pytest.raises(ValueError, match='BAT-9999'):
        proves('BAT-9999')


UNSTEADY = """
import pathlib
import pytest

@pytest.mark.parametrize('n', range({unsteady}))
def test_unsteady(n):
    seen = pathlib.Path(f'seen-{{n}}')
    begun, _ = seen.exists(), seen.touch()
    assert begun, 'the first time'

def test_steady():
    assert {steady}
"""


@pytest.mark.parametrize(
    ('unsteady', 'steady', 'status', 'said', 'last'),
    [
        (2, True, 0, ['UNSTEADY: passed only when run again: test_it.py::test_unsteady[1]', 'the first time'],
         '3 passed, 2 unsteady'),
        (1, False, 1, ['Running 2 failed of 2 again'], '2 failed'),
        (4, True, 1, [], '4 failed, 1 passed'),
    ],
    ids=['unsteady', 'fails again', 'too many'],
)  # fmt: skip
def test_what_failed_is_run_again(
    tmp_path: Path, unsteady: int, steady: bool, status: int, said: list[str], last: str
) -> None:
    """``--again 3``: few failures are run once more; the exit status, what is said, and pytest's last line."""
    (tmp_path / 'test_it.py').write_text(UNSTEADY.format(unsteady=unsteady, steady=steady))
    command = [
        sys.executable,
        '-m',
        'pytest',
        '-p',
        'tests.fixtures.again',
        '-c',
        '/dev/null',
        '--rootdir',
        '.',
        '--again=3',
    ]
    kept = {name: value for name, value in os.environ.items() if not name.startswith(('PYTEST', 'DJANGO'))}
    kept |= {'PYTHONPATH': str(ROOT), 'PYTEST_DISABLE_PLUGIN_AUTOLOAD': '1'}
    done = subprocess.run(command, cwd=tmp_path, env=kept, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == status, done.stdout
    assert all(text in done.stdout for text in said), done.stdout
    assert ('UNSTEADY' in done.stdout) == ('Running' in done.stdout and not status)
    assert last in done.stdout.splitlines()[-1]


def test_what_passed_again_is_proven() -> None:
    account = conformance.Plugin()
    failed: Any = SimpleNamespace(nodeid='one', user_properties=[('proves', 'RST-03')], failed=True, passed=False)
    account.pytest_runtest_logreport(failed)
    assert not account.proofs()
    account.passed_again(['one'])
    assert account.proofs() == {'RST-03': {'one'}}
