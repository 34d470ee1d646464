"""Data forms (XEP-0004) and their FORM_TYPE (XEP-0068): strict reading, building, and the check of a submission.

A program that receives a form describes what it expects once:

    FIELDS = {'with': Field('with', 'jid-single'), 'start': Field('start'), 'full': Field('full', 'boolean')}
    submission = submitted(element, 'urn:x', FIELDS)    # FormError says which field is wrong and what would be right
    submission.text('start'), submission.flag('full', default=False), submission.values('with')

and builds what it sends with ``Form(...).xml()``. Reading is linear in the size of the element and bounded.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Final, Literal, get_args
from xml.etree.ElementTree import Element

from engine.contract import jid
from engine.xmpp import ns
from engine.xmpp.stanza import escape, quote

FormKind = Literal['form', 'submit', 'cancel', 'result']
FieldType = Literal[
    'boolean', 'fixed', 'hidden', 'jid-multi', 'jid-single', 'list-multi', 'list-single', 'text-multi', 'text-private',
    'text-single',
]  # fmt: skip
KINDS: Final[frozenset[str]] = frozenset(get_args(FormKind))
TYPES: Final[frozenset[str]] = frozenset(get_args(FieldType))
MULTI: Final = frozenset(('jid-multi', 'list-multi', 'text-multi'))
FORM_TYPE: Final = 'FORM_TYPE'

FIELDS: Final = 256
VALUES: Final = 2000
ITEMS: Final = 2000
"""Most fields of a form (and of one item), values of all its fields together, and items of a result."""
LENGTH: Final = 65536
"""Most characters of one value."""
_SHOWN: Final = 40
_BOOLEAN: Final = {'1': True, 'true': True, '0': False, 'false': False}
_X, _FIELD, _VALUE = (f'{{{ns.DATA_FORMS}}}{name}' for name in ('x', 'field', 'value'))


class FormError(ValueError):
    """A form is not as it must be; the message says where and what would be right. Answer it with bad-request."""


@dataclass(frozen=True, slots=True)
class Field:
    """One field. ``options`` are (value, label) pairs of a list; ``type`` None: the sender left it out, which a
    submission may (XEP-0004 3.2)."""

    var: str
    type: FieldType | None = 'text-single'
    values: tuple[str, ...] = ()
    label: str = ''
    options: tuple[tuple[str, str], ...] = ()
    required: bool = False
    desc: str = ''

    def xml(self) -> str:
        """The <field/>."""
        attributes = ''.join(
            f" {name}='{quote(value)}'"
            for name, value in (('var', self.var), ('type', self.type), ('label', self.label))
            if value
        )
        inside = f'<desc>{escape(self.desc)}</desc>' if self.desc else ''
        inside += '<required/>' if self.required else ''
        inside += ''.join(f'<value>{escape(value)}</value>' for value in self.values)
        for value, label in self.options:
            labelled = f" label='{quote(label)}'" if label else ''
            inside += f'<option{labelled}><value>{escape(value)}</value></option>'
        return f'<field{attributes}>{inside}</field>' if inside else f'<field{attributes}/>'


@dataclass(frozen=True, slots=True)
class Form:
    """A form. ``reported`` and ``items`` are the table of a result; the values of an item stand under the ``var`` of
    their fields."""

    kind: FormKind
    fields: tuple[Field, ...] = ()
    title: str = ''
    instructions: tuple[str, ...] = ()
    reported: tuple[Field, ...] = ()
    items: tuple[Mapping[str, tuple[str, ...]], ...] = ()
    _by_var: dict[str, Field] = field(init=False, repr=False, compare=False, default_factory=dict)

    def __post_init__(self) -> None:
        self._by_var.update((entry.var, entry) for entry in self.fields if entry.var)

    @property
    def form_type(self) -> str:
        """The value of the hidden FORM_TYPE field, '' when there is none (XEP-0068)."""
        return self.text(FORM_TYPE)

    def __contains__(self, var: object) -> bool:
        """Whether the field is there, with or without a value."""
        return var in self._by_var

    def values(self, var: str) -> tuple[str, ...]:
        """All values of a field; () when it is not there."""
        entry = self._by_var.get(var)
        return entry.values if entry else ()

    def text(self, var: str, default: str = '') -> str:
        """The first value of a field, ``default`` when it has none."""
        values = self.values(var)
        return values[0] if values else default

    def flag(self, var: str, default: bool = False) -> bool:
        """A boolean field; ``default`` when it has no value. Raises FormError."""
        value = self.text(var)
        if not value:
            return default
        if value not in _BOOLEAN:
            raise FormError(f'The field {_name(var)} is 0, 1, true or false, not {_name(value)}.')
        return _BOOLEAN[value]

    def number(self, var: str, default: int | None = None, low: int = 0, high: int = 2**31 - 1) -> int | None:
        """A whole number from ``low`` to ``high``; ``default`` when the field has no value. Raises FormError."""
        value = self.text(var).strip()
        if not value:
            return default
        digits = value.removeprefix('-')
        if not (digits.isascii() and digits.isdigit() and len(digits) <= 20 and low <= int(value) <= high):
            raise FormError(f'The field {_name(var)} is a whole number from {low} to {high}, not {_name(value)}.')
        return int(value)

    def xml(self) -> str:
        """The <x xmlns='jabber:x:data'/>."""
        inside = f'<title>{escape(self.title)}</title>' if self.title else ''
        inside += ''.join(f'<instructions>{escape(line)}</instructions>' for line in self.instructions)
        inside += ''.join(entry.xml() for entry in self.fields)
        if self.reported:
            columns = ''.join(replace(column, values=()).xml() for column in self.reported)
            inside += f'<reported>{columns}</reported>'
        for item in self.items:
            cells = ''.join(Field(var, None, values).xml() for var, values in item.items())
            inside += f'<item>{cells}</item>'
        return f"<x xmlns='{ns.DATA_FORMS}' type='{self.kind}'>{inside}</x>"


def hidden(form_type: str) -> Field:
    """The FORM_TYPE field of a form, a submission or a result."""
    return Field(FORM_TYPE, 'hidden', (form_type,))


def boolean(var: str, value: bool, label: str = '') -> Field:
    """A boolean field with a value."""
    return Field(var, 'boolean', ('1' if value else '0',), label)


def find(parent: Element) -> Element | None:
    """The form among the children of ``parent``."""
    return parent.find(_X)


def parse(element: Element) -> Form:
    """Read one form. Raises FormError for anything XEP-0004 does not allow, and beyond the limits of this module.

    A field of an unknown type counts as text-single (XEP-0004 3.3); elements of other namespaces are passed over.
    """
    if element.tag != _X:
        raise FormError(f"A form is an element <x/> of the namespace '{ns.DATA_FORMS}'.")
    kind = element.get('type', '')
    if kind not in KINDS:
        raise FormError(f'The type of a form is one of {", ".join(sorted(KINDS))}, not {_name(kind)}.')
    budget = [VALUES]
    fields = _fields(element, budget, kind != 'submit')
    reported: tuple[Field, ...] = ()
    items: list[Mapping[str, tuple[str, ...]]] = []
    for child in element:
        if child.tag == f'{{{ns.DATA_FORMS}}}reported':
            if reported:
                raise FormError('A form has one <reported/> only.')
            reported = _fields(child, budget, typed=True)
        elif child.tag == f'{{{ns.DATA_FORMS}}}item':
            if len(items) >= ITEMS:
                raise FormError(f'A form has at most {ITEMS} items.')
            items.append({entry.var: entry.values for entry in _fields(child, budget, typed=False)})
    return Form(
        kind,  # type: ignore[arg-type]  # checked above
        fields,
        _text(element, 'title'),
        tuple(child.text or '' for child in element.findall(f'{{{ns.DATA_FORMS}}}instructions')[:ITEMS]),
        reported,
        tuple(items),
    )


def submitted(element: Element | None, form_type: str, expected: Mapping[str, Field], cancel: bool = False) -> Form:
    """Read a submission and check it against the fields that were offered. Raises FormError.

    The FORM_TYPE must be ``form_type`` or absent; every other field must be one of ``expected``, have one value unless
    its type allows more, and a value its type and its options allow (JIDs come back prepared); required fields must
    be there. ``cancel``: a form of the type cancel is taken too, and comes back without fields.
    """
    if element is None:
        raise FormError(f"Send a form of the type submit in the namespace '{ns.DATA_FORMS}'.")
    form = parse(element)
    if form.kind == 'cancel' and cancel:
        return Form('cancel')
    if form.kind != 'submit':
        raise FormError(f'The form must be of the type submit, not {form.kind}.')
    if form.form_type not in ('', form_type):
        raise FormError(f'The FORM_TYPE is {_name(form_type)}, not {_name(form.form_type)}.')
    kept = [_checked(entry, expected) for entry in form.fields if entry.var != FORM_TYPE and entry.type != 'fixed']
    found = {entry.var for entry in kept if entry.values}
    for entry in expected.values():
        if entry.required and entry.var not in found:
            raise FormError(f'The field {_name(entry.var)} is required.')
    return replace(form, fields=tuple(kept))


def _checked(entry: Field, expected: Mapping[str, Field]) -> Field:
    known = expected.get(entry.var)
    if known is None:
        raise FormError(f'There is no field {_name(entry.var)}. The fields are: {_words(expected)}.')
    kind = known.type
    values = entry.values
    if len(values) > 1 and kind not in MULTI:
        raise FormError(f'The field {_name(entry.var)} has one value, not {len(values)}.')
    if kind == 'boolean':
        Form('submit', (entry,)).flag(entry.var)
    elif kind in ('jid-single', 'jid-multi'):
        values = tuple(_jid(entry.var, value) for value in values if value)
        if len(set(values)) != len(values):
            raise FormError(f'The field {_name(entry.var)} names an address twice.')
    elif kind in ('list-single', 'list-multi') and known.options:
        allowed = [value for value, _ in known.options]
        for value in values:
            if value not in allowed:
                raise FormError(f'The field {_name(entry.var)} is one of: {_words(allowed)}; not {_name(value)}.')
    return replace(entry, type=kind, values=values)


def _jid(var: str, value: str) -> str:
    try:
        return jid.prepare(value)
    except jid.InvalidJID as error:
        raise FormError(f'The field {_name(var)} is not a JID: {error}.') from None


def _fields(parent: Element, budget: list[int], typed: bool) -> tuple[Field, ...]:
    fields: list[Field] = []
    seen: set[str] = set()
    for child in parent:
        if child.tag != _FIELD:
            continue
        if len(fields) >= FIELDS:
            raise FormError(f'A form has at most {FIELDS} fields.')
        entry = _read(child, budget, typed)
        if entry.var and entry.var in seen:
            raise FormError(f'The field {_name(entry.var)} is there twice.')
        seen.add(entry.var)
        fields.append(entry)
    return tuple(fields)


def _read(element: Element, budget: list[int], typed: bool) -> Field:
    given = element.get('type')
    kind: FieldType | None = given if given in TYPES else 'text-single' if typed or given else None  # type: ignore[assignment]
    var = element.get('var', '')
    if not var and kind != 'fixed':
        raise FormError("Every field but one of the type fixed needs the attribute 'var'.")
    if len(var) > 1024:
        raise FormError(f'The name of a field has at most 1024 characters: {_name(var)}.')
    values = []
    options = []
    for child in element:
        if child.tag == _VALUE:
            values.append(_value(child, var, budget))
        elif child.tag == f'{{{ns.DATA_FORMS}}}option':
            option = child.findall(_VALUE)
            if len(option) != 1:
                raise FormError(f'An option of the field {_name(var)} needs exactly one value.')
            options.append((_value(option[0], var, budget), child.get('label', '')))
    required = element.find(f'{{{ns.DATA_FORMS}}}required') is not None
    return Field(var, kind, tuple(values), element.get('label', ''), tuple(options), required, _text(element, 'desc'))


def _value(element: Element, var: str, budget: list[int]) -> str:
    budget[0] -= 1
    if budget[0] < 0:
        raise FormError(f'A form has at most {VALUES} values.')
    if len(element):
        raise FormError(f'A value of the field {_name(var)} is text without elements.')
    text = element.text or ''
    if len(text) > LENGTH:
        raise FormError(f'A value of the field {_name(var)} has at most {LENGTH} characters.')
    return text


def _text(parent: Element, name: str) -> str:
    return parent.findtext(f'{{{ns.DATA_FORMS}}}{name}') or ''


def _name(text: str) -> str:
    return repr(text if len(text) <= _SHOWN else f'{text[:_SHOWN]}…')


def _words(names: Iterable[str] | Collection[str]) -> str:
    return ', '.join(names)
