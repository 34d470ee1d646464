"""Address preparation for any text (RFC 7622, XEP-0106): stable, unambiguous, bounded."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.contract import jid, privacy

FORBIDDEN = set('"&\'/:<>@')
anything = st.text(max_size=40) | st.text(
    st.sampled_from(
        'aAbZ09._-@/ \\\'"&<>:#ＡＦ＠／：＜＞\u212a\u0130ıßſςΣσÅåＫ\u200c\u200d\u00ad\u0301\u1100ﬁ汉🙂\x00\x7f[]%'
    ),
    max_size=12,
)


@given(anything)
def test_a_prepared_part_is_prepared(text: str) -> None:
    for prepare in (jid.prepare_local, jid.prepare_domain, jid.prepare_resource):
        with contextlib.suppress(jid.InvalidJID):
            prepared = prepare(text)
            assert prepare(prepared) == prepared
            assert 0 < len(prepared.encode()) <= jid.PART


@given(anything, anything, anything)
def test_an_address_has_one_reading(local: str, domain: str, resource: str) -> None:
    """Whatever the parts are, the prepared address splits into just them: nobody is mistaken for somebody else."""
    with contextlib.suppress(jid.InvalidJID):
        parts = (jid.prepare_local(local), jid.prepare_domain(domain), jid.prepare_resource(resource))
        assert not FORBIDDEN & set(parts[0])
        assert not {'@', '/'} & set(parts[1])
        whole = f'{parts[0]}@{parts[1]}/{parts[2]}'
        assert jid.split(whole) == parts
        assert jid.prepare(whole) == whole
        assert jid.bare(whole) == f'{parts[0]}@{parts[1]}'
        assert privacy.forms(whole)[:2] == (whole, f'{parts[0]}@{parts[1]}')


@given(anything)
def test_any_text_is_an_address_or_refused(text: str) -> None:
    with contextlib.suppress(jid.InvalidJID):
        prepared = jid.prepare(text)
        assert jid.split(prepared) == jid.split(text)
        assert jid.prepare(prepared) == prepared


@given(st.text('abcXYZ09._-', min_size=1, max_size=20), st.text('abcXYZ09', min_size=1, max_size=20))
def test_case_does_not_matter(local: str, domain: str) -> None:
    address = f'{local}@{domain}.example'
    assert jid.prepare(address.upper()) == jid.prepare(address.lower()) == jid.prepare(address)


@given(st.text(max_size=30) | st.text('\\5c2027@ /:', max_size=12))
def test_escaping_gives_back_what_it_took(text: str) -> None:
    escaped = jid.escape_local(text)
    assert jid.unescape_local(escaped) == text.strip()
    assert not (FORBIDDEN | {' '}) & set(escaped)


@pytest.mark.parametrize('local', ['bob＠example.com', 'a／b', 'x：y', '＜', '＆', 'ＢＯＢ／'])
def test_full_width_forms_of_separators(local: str) -> None:
    """Preparing maps them to the separators themselves; an address must not get a second '@' or '/' that way."""
    with pytest.raises(jid.InvalidJID):
        jid.prepare(f'{local}@example.com')
