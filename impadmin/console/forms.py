"""Add, edit and settings forms from page declarations. Labels, help, limits and choices come from the model."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

from django import forms
from django.core.exceptions import FieldDoesNotExist, ValidationError
from django.core.validators import MaxValueValidator, MinValueValidator
from django.db import models
from django.forms.models import fields_for_model
from django.utils.text import capfirst
from django.utils.translation import gettext, gettext_lazy

from impadmin.console import audit, restarts, stale, tables
from impadmin.console.page import Column, Fieldset, Page, SettingsPage, Text

MANY = 100
"""Above this number of choices a reference is typed with suggestions instead of chosen from a list."""

UNITS: tuple[tuple[str, Text], ...] = (
    ('_s', gettext_lazy('seconds')),
    ('_ms', gettext_lazy('milliseconds')),
    ('_bytes', gettext_lazy('bytes')),
)


class NoLimitWidget(forms.TextInput):
    """A number with a *No Limit* box (``NAME-nolimit``) that wins over the number."""

    def value_from_datadict(self, data: Mapping[str, Any], files: Any, name: str) -> Any:
        """The typed text, or None when the box is ticked."""
        return None if data.get(f'{name}-nolimit') else data.get(name, '')

    def value_omitted_from_data(self, data: Mapping[str, Any], files: Any, name: str) -> bool:
        """Whether neither the number nor the box was sent."""
        return name not in data and f'{name}-nolimit' not in data


class NoLimitField(forms.IntegerField):
    """A whole number or, with the box ticked, None."""

    widget = NoLimitWidget

    def clean(self, value: Any) -> int | None:
        """None for *No Limit*; an empty number without the box is an error."""
        if value is None:
            return None
        if str(value).strip() == '':
            raise ValidationError(gettext('Enter a number or tick No Limit.'), code='required')
        number: int | None = super().clean(value)
        return number

    def has_changed(self, initial: Any, data: Any) -> bool:
        """Compare as numbers; None is *No Limit*."""
        if initial is None or data is None:
            return initial is not data
        return str(initial) != str(data).strip()


class ReferenceField(forms.CharField):
    """A reference to one of many objects, typed by its natural name, with suggestions from the list's lookup."""

    def __init__(self, model_field: models.ForeignKey[Any, Any], **kwargs: Any) -> None:
        self.related: type[models.Model] = model_field.remote_field.model
        self.natural = natural_field(self.related)
        super().__init__(**kwargs)

    def prepare_value(self, value: Any) -> Any:
        """Show the name of the object whose primary key is the initial value."""
        if value in (None, '') or isinstance(value, str):
            return value
        found = self.related._default_manager.filter(pk=value).first()
        return '' if found is None else getattr(found, self.natural)

    def clean(self, value: Any) -> Any:
        """The object of that name."""
        text = super().clean(value)
        if not text:
            return None
        found = self.related._default_manager.filter(**{self.natural: text}).first()
        if found is None:
            raise ValidationError(
                gettext('There is no %(type)s named %(name)s.')
                % {'type': self.related._meta.verbose_name, 'name': text}
            )
        return found

    def has_changed(self, initial: Any, data: Any) -> bool:
        """Compare by name."""
        return (self.prepare_value(initial) or '') != (data or '')


def natural_field(model: type[models.Model]) -> str:
    """The field a person names an object by: the first unique text field, else the first text field, else the key."""
    texts = [f for f in model._meta.concrete_fields if isinstance(f, models.CharField)]
    for candidate in texts:
        if candidate.unique:
            return candidate.name
    return texts[0].name if texts else 'pk'


def model_field(model: type[models.Model], name: str) -> models.Field[Any, Any] | None:
    """The concrete model field called ``name``, or None."""
    try:
        found = model._meta.get_field(name)
    except FieldDoesNotExist:
        return None
    return found if isinstance(found, models.Field) else None


def fieldsets(page: Page | SettingsPage) -> tuple[Fieldset, ...]:
    """The declared fieldsets, or one with every editable and extra field; then the read-only fields not named yet."""
    if page.fieldsets:
        groups = page.fieldsets
    else:
        names = [f.name for f in page.model._meta.concrete_fields if f.editable and not isinstance(f, models.AutoField)]
        extra = tuple(page.extra) if isinstance(page, Page) else ()
        groups = (Fieldset(page.model._meta.verbose_name or '', (*names, *extra)),)
    named = {name for group in groups for name in group.fields}
    rest = tuple(name for name in (page.read_only if isinstance(page, Page) else ()) if name not in named)
    return (*groups, Fieldset(gettext_lazy('State'), rest)) if rest else groups


def shown_names(page: Page | SettingsPage) -> list[str]:
    """Every field on the form, in order."""
    return [name for group in fieldsets(page) for name in group.fields]


def read_only_names(page: Page | SettingsPage) -> set[str]:
    """Fields that are shown but never written: declared so, or not editable on the model."""
    declared = set(page.read_only) if isinstance(page, Page) else set()
    for name in shown_names(page):
        found = model_field(page.model, name)
        if found is not None and not found.editable:
            declared.add(name)
    return declared


def editable_names(page: Page | SettingsPage) -> list[str]:
    """Model fields the form writes. An extra field of the same name (a password) stands for the model's."""
    other = read_only_names(page) | set(page.extra if isinstance(page, Page) else ())
    return [n for n in shown_names(page) if n not in other and model_field(page.model, n) is not None]


def computed(page: Page | SettingsPage, name: str) -> Column | None:
    """The list column of that name that is no field of the model: a form may show it too."""
    columns = page.columns if isinstance(page, Page) and model_field(page.model, name) is None else ()
    return next((one for one in columns if isinstance(one, Column) and one.name == name), None)


def unit_of(name: str) -> Text:
    """The unit a field name ends with, e.g. ``_s``: seconds."""
    return next((unit for suffix, unit in UNITS if name.endswith(suffix)), '')


def form_field(found: models.Field[Any, Any]) -> forms.Field:
    """The form field of a model field, its own validators included, so that every wrong field is named at once."""
    if isinstance(found, models.ForeignKey) and found.remote_field.model._default_manager.count() > MANY:
        result: forms.Field = ReferenceField(
            found, label=found.verbose_name, help_text=found.help_text, required=not found.blank
        )
    elif found.null and isinstance(found, models.IntegerField) and not found.choices:
        result = NoLimitField(label=found.verbose_name, help_text=found.help_text, required=False)
    else:
        built = fields_for_model(found.model, fields=[found.name]).get(found.name)
        assert built is not None, f'{found} has no form field'
        result = built
    known = {type(validator) for validator in result.validators}
    result.validators = [
        *result.validators,
        *(v for v in found.validators if type(v) not in known and not isinstance(result, ReferenceField)),
    ]
    if isinstance(result.widget, forms.NumberInput) or isinstance(result, forms.IntegerField | forms.FloatField):
        _say_range(result)
        result.localize = False
        if not isinstance(result.widget, NoLimitWidget | forms.Select):
            result.widget = forms.TextInput()
        result.widget.attrs['inputmode'] = 'decimal' if isinstance(result, forms.FloatField) else 'numeric'
    if isinstance(result, forms.ModelChoiceField) and not isinstance(result, forms.ModelMultipleChoiceField):
        result.empty_label = gettext('None')
    elif isinstance(result, forms.TypedChoiceField):
        result.choices = [(key, text if key != '' else gettext('Choose one')) for key, text in found.get_choices()]
        if found.has_default():
            result.choices = [choice for choice in result.choices if choice[0] != '']
    return result


def _say_range(result: forms.Field) -> None:
    """Let every wrong number be answered with what would be right."""
    lows = [v.limit_value for v in result.validators if isinstance(v, MinValueValidator)]
    highs = [v.limit_value for v in result.validators if isinstance(v, MaxValueValidator)]
    if not lows or not highs or any(callable(limit) for limit in (*lows, *highs)):
        return
    text = gettext('Enter a number from %(low)s to %(high)s.') % {
        'low': tables.number(max(lows)),
        'high': tables.number(min(highs)),
    }
    result.validators = [v for v in result.validators if not isinstance(v, MinValueValidator | MaxValueValidator)]
    result.validators += [MinValueValidator(max(lows), text), MaxValueValidator(min(highs), text)]
    result.error_messages['invalid'] = text


def display(page_model: type[models.Model], name: str, value: Any) -> str:
    """One field value as text, e.g. for "was", previews and history: on/off, choice labels, No Limit, names."""
    return display_value(model_field(page_model, name), value)


def display_value(found: models.Field[Any, Any] | None, value: Any) -> str:
    """Like ``display`` for a model field at hand (None: judge by the value alone)."""
    if isinstance(value, bool):
        return gettext('on') if value else gettext('off')
    if (words := getattr(found, 'words', None)) is not None:
        return str(words(value))
    if found is not None and found.choices:
        return str(dict(found.flatchoices).get(value, '' if value is None else value)) or '–'
    if value is None:
        if isinstance(found, models.IntegerField) and found.null and found.editable:
            return gettext('No Limit')
        return '–'
    if isinstance(found, models.ForeignKey) and not isinstance(value, models.Model):
        related = found.remote_field.model._default_manager.filter(pk=value).first()
        return '–' if related is None else str(related)
    if isinstance(found, models.DateTimeField) and hasattr(value, 'tzinfo'):
        return tables.exactly_when(value)
    if isinstance(value, int | float):
        return tables.number(value)
    if isinstance(value, list | tuple):
        return ', '.join(str(part) for part in value) or '–'
    return str(value) or '–'


@dataclass(slots=True)
class Row:
    """One field as the template draws it."""

    name: str
    label: Text
    kind: str
    """check, select, many, table, radio, area, nolimit, reference, file, password, text,
    readonly, or shown: as its model field draws it."""
    bound: forms.BoundField | None = None
    text: str = ''
    help: Text = ''
    unit: Text = ''
    was: str = ''
    changed: bool = False
    number: bool = False
    lookup: str = ''
    initial: str = ''
    """Initial value as a control holds it, for the script that marks changes."""
    suggested: str = ''
    note: Text = ''
    restarts: str = ''
    """Which services must restart, as a sentence."""
    anchor: str = ''
    """Where the field stands on the help page; '': its name."""
    choice: stale.Choice | None = None
    """Somebody else changed it, too."""
    errors: list[str] = field(default_factory=list)

    @property
    def boxes(self) -> list[tuple[str, Text, bool, bool]]:
        """(value, label, ticked, ticked at first) of the boxes of a field that takes many of its choices."""
        at_first = self.initial.split(',')
        options = [box.data for box in self.bound.subwidgets] if self.bound is not None else []
        return [(str(o['value']), o['label'], o['selected'], str(o['value']) in at_first) for o in options]


@dataclass(slots=True)
class Group:
    """One fieldset as the template draws it."""

    title: Text
    help: Text
    rows: list[Row]


class PageForm(forms.Form):
    """The form of one object or settings page. ``version`` tells whether somebody saved in between."""

    use_required_attribute = False

    page: Page | SettingsPage
    obj: models.Model | None
    choices: Mapping[str, stale.Choice] = MappingProxyType({})

    @property
    def version(self) -> str:
        """Fingerprint of the saved object, so that saving over somebody else's change is noticed; '' on add."""
        return '' if self.obj is None or self.obj.pk is None else audit.digest(self.obj)

    @property
    def saved(self) -> dict[str, Any]:
        """What is saved now, see stale.py; {} on add."""
        return {} if self.obj is None or self.obj.pk is None else stale.saved(self.obj, editable_names(self.page))

    @property
    def seen(self) -> str:
        """The same for a hidden field."""
        return stale.written(self.saved)

    def shown(self, name: str, value: Any) -> str:
        """A value of ``saved`` as people read it."""
        return audit.display(value, self.page.model, name) or '–'

    def values(self) -> dict[str, Any]:
        """What the actions take: the cleaned editable fields and the extra ones."""
        return dict(self.cleaned_data)

    def refuse(self, error: ValidationError) -> None:
        """Show the action's messages at their fields; what belongs to no field of the form goes on top."""
        if hasattr(error, 'error_dict'):
            for name, messages in error.error_dict.items():
                self.add_error(name if name in self.fields else None, messages)
        else:
            self.add_error(None, error)

    def groups(self, closed: bool = False) -> list[Group]:
        """The fieldsets with their rows; ``closed``: every value as text, fields that are no model fields left out."""
        locked = set(shown_names(self.page)) if closed else read_only_names(self.page)
        consents = self.page.consents if isinstance(self.page, Page) else ()
        result = []
        for group in fieldsets(self.page):
            rows = [self._row(name, name in locked) for name in group.fields if self._has(name, closed)]
            rows = [row for row in rows if row.name not in consents or row.errors or (row.bound and row.bound.value())]
            if rows:
                result.append(Group(group.title, group.help, rows))
        return result

    def _has(self, name: str, closed: bool) -> bool:
        if closed and isinstance(self.page, Page) and name in self.page.extra:
            return False
        return name in self.fields or (self.obj is not None and self.obj.pk is not None)

    @functools.cached_property
    def _restarts(self) -> dict[str, tuple[str, ...]]:
        return restarts.by_field(self.page)

    def _row(self, name: str, locked: bool) -> Row:
        found = model_field(self.page.model, name)
        if locked or name not in self.fields:
            if (column := computed(self.page, name)) is not None and column.value is not None:
                return Row(name, column.label, 'readonly', text=display_value(None, column.value(self.obj)))
            label = capfirst(found.verbose_name) if found is not None else name.replace('_', ' ').capitalize()
            if (shown := getattr(found, 'shown', None)) is not None and self.obj is not None:
                return Row(name, label, 'shown', text=shown(self.obj))
            value = getattr(self.obj, name, None)
            if isinstance(found, models.ForeignKey):
                text = '–' if value is None else str(value)
            else:
                text = display_value(found, value)
            return Row(name, label, 'readonly', text=text, help=found.help_text if found is not None else '')
        bound = self[name]
        row = Row(
            name,
            bound.label,
            kind_of(bound.field),
            bound=bound,
            help=bound.help_text,
            unit=unit_of(name),
            number='inputmode' in bound.field.widget.attrs,
            errors=[str(message) for message in bound.errors],
            restarts=restarts.sentence(self._restarts.get(name, ())),
            choice=self.choices.get(name),
        )
        decorate(row, bound)
        if isinstance(bound.field, ReferenceField):
            row.lookup = name
        if self.obj is not None and self.obj.pk is not None and found is not None:
            row.was = display_value(found, found.value_from_object(self.obj))
            row.changed = self.is_bound and name in self.changed_data
        return row


def kind_of(found: forms.Field) -> str:
    """How the template draws a form field; a widget may say it by itself."""
    widget = found.widget
    if own := getattr(widget, 'kind', ''):
        return str(own)
    for kind, types in (
        ('check', forms.CheckboxInput),
        ('radio', forms.RadioSelect),
        ('many', forms.SelectMultiple),
        ('select', forms.Select),
        ('area', forms.Textarea),
        ('nolimit', NoLimitWidget),
        ('file', forms.FileInput),
        ('password', forms.PasswordInput),
    ):
        if isinstance(widget, types):
            return kind
    return 'reference' if isinstance(found, ReferenceField) else 'text'


def decorate(row: Row, bound: forms.BoundField) -> None:
    """Classes and ARIA attributes of the control."""
    attrs = bound.field.widget.attrs
    classes = {
        'check': 'ck',
        'select': 'select',
        'area': 'input is-area',
        'file': 'input is-file',
    }
    if row.kind != 'radio':
        attrs['class'] = classes.get(row.kind, 'input input-s num' if row.number else 'input')
    described = [f'{bound.auto_id}-help'] if row.help else []
    attrs.pop('aria-invalid', None)
    if row.errors:
        attrs['aria-invalid'] = 'true'
        described.insert(0, f'{bound.auto_id}-err')
    if described:
        attrs['aria-describedby'] = ' '.join(described)
    if bound.field.required and row.kind != 'check':
        attrs['aria-required'] = 'true'
    if row.kind == 'area':
        attrs['rows'] = 4
    if row.kind == 'password':
        attrs.setdefault('autocomplete', 'new-password')
    elif row.kind in ('text', 'nolimit', 'reference'):
        attrs.setdefault('autocomplete', 'off')
    if row.kind == 'reference':
        attrs['list'] = f'{bound.auto_id}-list'
        attrs['data-lookup'] = row.name
    initial = bound.field.prepare_value(bound.initial)
    if row.kind == 'check':
        row.initial = '1' if initial else ''
    elif isinstance(initial, list | tuple) and row.kind in ('many', 'table'):
        row.initial = ','.join(str(value) for value in initial)
    else:
        row.initial = '' if initial is None else str(initial)
    attrs['data-initial'] = row.initial


def copy_cleared(page: Page) -> set[str]:
    """Fields that a copy does not take over."""
    return {*page.copy_clear, *(one.name for one in page.model._meta.concrete_fields if one.unique)}


def make(
    page: Page | SettingsPage,
    obj: models.Model | None = None,
    data: Any = None,
    files: Any = None,
    source: models.Model | None = None,
) -> PageForm:
    """The form of ``page`` for ``obj`` (None: add); ``source`` gives the initial values of a copy."""
    fields: dict[str, forms.Field] = {}
    extra = page.extra if isinstance(page, Page) else {}
    choices = page.choices if isinstance(page, Page) else {}
    names = editable_names(page)
    fixed = page.fixed(obj) if isinstance(page, Page) and page.fixed and obj is not None else ()
    for name in shown_names(page):
        if name in fixed:
            continue
        if name in names:
            found = model_field(page.model, name)
            assert found is not None
            fields[name] = form_field(found)
            if name in choices and isinstance(fields[name], forms.ModelChoiceField):
                fields[name].queryset = choices[name](obj)  # type: ignore[attr-defined]
        elif name in extra:
            made = extra[name](obj)
            if obj is not None or not getattr(made, 'edit_only', False):
                fields[name] = made
    initial: dict[str, Any] = {}
    origin = obj if obj is not None else source
    cleared = copy_cleared(page) if isinstance(page, Page) and obj is None else set()
    for name in names:
        found = model_field(page.model, name)
        assert found is not None
        if origin is not None and name not in cleared:
            initial[name] = found.value_from_object(origin)
        elif found.has_default() and origin is None:
            initial[name] = found.get_default()
    form_class = type('Form', (PageForm,), {**fields, 'page': page, 'obj': obj})
    form: PageForm = form_class(data, files, initial=initial, label_suffix='', auto_id='f-%s')
    return form


def plain_rows(form: forms.Form) -> list[Row]:
    """Rows of any other form, e.g. of a command; without its hidden fields."""
    rows = []
    for bound in form.visible_fields():
        row = Row(
            bound.name,
            bound.label,
            kind_of(bound.field),
            bound=bound,
            help=bound.help_text,
            number=isinstance(bound.field, forms.IntegerField | forms.FloatField),
            errors=[str(message) for message in bound.errors],
        )
        decorate(row, bound)
        rows.append(row)
    return rows


def problems(form: forms.Form) -> list[tuple[str, str]]:
    """``(anchor id, label)`` of every field with an error, in form order."""
    return [(f'{bound.auto_id}', str(bound.label)) for bound in form if bound.errors]
