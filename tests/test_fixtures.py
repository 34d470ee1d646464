"""The suite's own ground: servers answer, data is committed and removed again, unknown rows are refused."""

from __future__ import annotations

import psycopg
import pytest

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
