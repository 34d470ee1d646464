"""Serializers from page declarations: written fields, shown fields, extra fields; nothing unknown is accepted."""

from __future__ import annotations

import codecs
import json
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from django import forms as django_forms
from django.conf import settings
from django.core.exceptions import ObjectDoesNotExist, ValidationError
from django.db import models
from django.utils.translation import gettext, gettext_noop
from drf_spectacular.extensions import OpenApiSerializerFieldExtension
from rest_framework import serializers
from rest_framework.exceptions import ParseError
from rest_framework.parsers import JSONParser
from rest_framework.validators import UniqueValidator

from impadmin.console import forms, tables
from impadmin.console.actions import unstorable
from impadmin.console.page import Column, Page, SettingsPage

DEEPEST = 20
"""Deepest nesting of a JSON body."""


class StrictJSONParser(JSONParser):
    """JSON bodies of a bounded size and depth, with text that can be stored."""

    def parse(self, stream: Any, media_type: str | None = None, parser_context: Mapping[str, Any] | None = None) -> Any:
        """The parsed body. Raises ParseError (400)."""
        limit = settings.DATA_UPLOAD_MAX_MEMORY_SIZE or 0
        raw = stream.read(limit + 1)
        if len(raw) > limit:
            raise ParseError(gettext('The body is larger than %(most)d bytes.') % {'most': limit})
        encoding = (parser_context or {}).get('encoding', settings.DEFAULT_CHARSET)
        try:
            text = codecs.decode(raw, encoding)
            assert isinstance(text, str)
            data = json.loads(text, parse_constant=_no_constant, object_pairs_hook=_object)
        except (ValueError, LookupError) as error:
            raise ParseError(gettext('The body is not valid JSON: %(error)s.') % {'error': error}) from error
        except RecursionError:
            raise ParseError(gettext('The body is nested too deeply.')) from None
        _inspect(data, 0)
        return data


def _no_constant(name: str) -> Any:
    raise ValueError(f'{name} is not allowed')


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result = dict(pairs)
    if len(result) != len(pairs):
        raise ValueError('a name occurs twice in one object')
    return result


def _inspect(value: Any, depth: int) -> None:
    if depth > DEEPEST:
        raise ParseError(gettext('The body is nested too deeply.'))
    if isinstance(value, str):
        if text := unstorable(value):
            raise ParseError(text)
    elif isinstance(value, dict):
        for name, inner in value.items():
            _inspect(name, depth)
            _inspect(inner, depth + 1)
    elif isinstance(value, list):
        for inner in value:
            _inspect(inner, depth + 1)


_JSON_TYPES: tuple[tuple[Any, tuple[type, ...], str], ...] = (
    ((serializers.BooleanField, django_forms.BooleanField), (bool,), gettext_noop('Enter true or false.')),
    ((serializers.FloatField, django_forms.FloatField), (int, float), gettext_noop('Enter a number.')),
    ((serializers.IntegerField, django_forms.IntegerField), (int,), gettext_noop('Enter a whole number.')),
    ((django_forms.MultipleChoiceField, django_forms.ModelMultipleChoiceField), (list,), gettext_noop('Enter a list.')),
    ((django_forms.ModelChoiceField,), (str, int), gettext_noop('Enter a name or a primary key.')),
    ((serializers.JSONField, django_forms.JSONField), (list, dict, str, int, float, bool), ''),
    ((django_forms.FileField,), (), gettext_noop('Send a file as multipart/form-data.')),
    (
        (serializers.CharField, serializers.ChoiceField, serializers.DateTimeField, django_forms.Field),
        (str,),
        gettext_noop('Enter a text, in quotation marks.'),
    ),
)
"""Kinds of fields -> what a JSON body may give them -> what is said otherwise. The first that fits counts."""


def wrong_type(found: Any, value: Any) -> str:
    """What is wrong with the JSON type of ``value`` for this kind of field, or ''. null is left to the field."""
    for kinds, types, text in _JSON_TYPES:
        if isinstance(found, kinds):
            wrong = not isinstance(value, types) or (isinstance(value, bool) and bool not in types)
            return gettext(text) if wrong and value is not None else ''
    return ''


def is_json(request: Any) -> bool:
    """Whether the body has JSON types; a form has texts only."""
    return not str(getattr(request, 'content_type', '')).startswith('multipart/')


class ReferenceField(serializers.RelatedField[Any, Any, Any]):
    """A reference by the natural name of the object (its first unique text field); its primary key is taken too."""

    def __init__(self, **kwargs: Any) -> None:
        self.model: type[models.Model] = kwargs.pop('model')
        self.natural = forms.natural_field(self.model)
        super().__init__(**kwargs)

    def to_representation(self, value: Any) -> Any:
        """The natural name."""
        return getattr(value, self.natural)

    def to_internal_value(self, data: Any) -> Any:
        """The object."""
        objects = self.model._default_manager
        try:
            if isinstance(data, int) and not isinstance(data, bool):
                return objects.get(pk=data)
            if isinstance(data, str):
                return objects.get(**{self.natural: data})
        except (ObjectDoesNotExist, OverflowError, ValueError):
            raise serializers.ValidationError(
                gettext('There is no %(type)s named %(name)s.') % {'type': self.model._meta.verbose_name, 'name': data}
            ) from None
        raise serializers.ValidationError(gettext('Enter a name or a primary key.'))

    def use_pk_only_optimization(self) -> bool:
        """The name is needed."""
        return False


class ReferenceSchema(OpenApiSerializerFieldExtension):  # type: ignore[no-untyped-call]
    """References are names in the schema."""

    target_class = 'impadmin.console.api_fields.ReferenceField'

    def map_serializer_field(self, auto_schema: Any, direction: str) -> dict[str, Any]:
        """A text, or when sent also a number."""
        text: dict[str, Any] = {'type': 'string'}
        return text if direction == 'response' else {'oneOf': [text, {'type': 'integer'}]}


class JSONSchema(OpenApiSerializerFieldExtension):  # type: ignore[no-untyped-call]
    """Any JSON value; named one by one, because "anything" and "null" would overlap."""

    target_class = 'rest_framework.fields.JSONField'

    def map_serializer_field(self, auto_schema: Any, direction: str) -> dict[str, Any]:
        """Every type but null."""
        return {'type': ['object', 'array', 'string', 'number', 'boolean']}


class ColumnField(serializers.Field[Any, Any, Any, Any]):
    """A computed list column, as JSON."""

    def __init__(self, column: tables.ResolvedColumn, **kwargs: Any) -> None:
        self.column = column
        super().__init__(read_only=True, source='*', **kwargs)

    def to_representation(self, value: Any) -> Any:
        """State and link columns give their text."""
        found = self.column.value(value)
        if found is not None and self.column.kind in ('state', 'link'):
            found = found[1]
        if found is None or isinstance(found, bool | int | float):
            return found
        return found.isoformat() if isinstance(found, datetime) else str(found)


class ColumnSchema(OpenApiSerializerFieldExtension):  # type: ignore[no-untyped-call]
    """The schema type follows the kind of the column."""

    target_class = 'impadmin.console.api_fields.ColumnField'

    def map_serializer_field(self, auto_schema: Any, direction: str) -> dict[str, Any]:
        """Nullable."""
        kind = self.target.column.kind
        shapes = {'number': {'type': 'number'}, 'bytes': {'type': 'integer'}, 'bool': {'type': 'boolean'}}
        shape: dict[str, Any] = dict(shapes.get(kind, {'type': 'string'}))
        return {**shape, 'type': [shape['type'], 'null'], 'description': str(self.target.column.label)}


class FormField(serializers.Field[Any, Any, Any, Any]):
    """A form field that is no model field (a password): written only."""

    def __init__(self, form_field: django_forms.Field, **kwargs: Any) -> None:
        self.form_field = form_field
        kwargs.setdefault('required', form_field.required)
        super().__init__(
            write_only=True,
            allow_null=not form_field.required,
            label=str(form_field.label or ''),
            help_text=str(form_field.help_text or ''),
            **kwargs,
        )

    def to_internal_value(self, data: Any) -> Any:
        """What the form field makes of it."""
        try:
            return self.form_field.clean(data)
        except ValidationError as error:
            raise serializers.ValidationError(list(error.messages)) from error


class FormFieldSchema(OpenApiSerializerFieldExtension):  # type: ignore[no-untyped-call]
    """The schema type follows the form field."""

    target_class = 'impadmin.console.api_fields.FormField'

    def map_serializer_field(self, auto_schema: Any, direction: str) -> dict[str, Any]:
        """See ``form_schema``."""
        return form_schema(self.target.form_field)


def form_schema(found: django_forms.Field) -> dict[str, Any]:
    """JSON schema of what a form field takes."""
    shape: dict[str, Any] = {'type': 'string'}
    if isinstance(found, django_forms.BooleanField):
        shape = {'type': 'boolean'}
    elif isinstance(found, django_forms.IntegerField) and not isinstance(found, django_forms.FloatField):
        shape = {'type': 'integer'}
    elif isinstance(found, django_forms.FloatField):
        shape = {'type': 'number'}
    elif isinstance(found, django_forms.DateTimeField):
        shape = {'type': 'string', 'format': 'date-time'}
    elif isinstance(found, django_forms.JSONField):
        shape = {}
    elif isinstance(found, django_forms.FileField):
        shape = {'type': 'string', 'format': 'binary'}
    elif isinstance(found, django_forms.MultipleChoiceField | django_forms.ModelMultipleChoiceField):
        shape = {'type': 'array', 'items': {'type': 'string'}}
    if isinstance(found, django_forms.ChoiceField) and not isinstance(found, django_forms.ModelChoiceField):
        values = [str(key) for key, text in list(found.choices) if not isinstance(text, list | tuple)]  # type: ignore[arg-type]
        target = shape['items'] if shape['type'] == 'array' else shape
        if values:
            target['enum'] = values
    if text := str(found.help_text or found.label or ''):
        shape['description'] = text
    return shape


class PageSerializer(serializers.ModelSerializer[Any]):
    """Base of the generated serializers. ``shown``: names that are never written."""

    page: Page | SettingsPage
    shown: frozenset[str] = frozenset()

    def to_internal_value(self, data: Any) -> Any:
        """Refuse names nobody knows, and changes of what is only shown."""
        if not isinstance(data, Mapping):
            raise serializers.ValidationError({'non_field_errors': [gettext('Send an object with named values.')]})
        errors: dict[str, list[str]] = {}
        current: Mapping[str, Any] | None = None
        typed = is_json(self.context.get('request'))
        for name in data:
            if name in self.shown:
                if current is None:
                    current = self.to_representation(self.instance) if self.instance is not None else {}
                if name not in current or _json(current[name]) != _json(data[name]):
                    errors[name] = [gettext('This field is read-only.')]
            elif name not in self.fields:
                errors[name] = [gettext('There is no such field.')]
            elif typed and (
                text := wrong_type(getattr(self.fields[name], 'form_field', self.fields[name]), data[name])
            ):
                errors[name] = [text]
        known = {name: value for name, value in data.items() if name not in errors}
        try:
            result = super().to_internal_value(known)
        except serializers.ValidationError as error:
            detail = error.detail if isinstance(error.detail, dict) else {'non_field_errors': error.detail}
            errors = {**detail, **errors}  # type: ignore[dict-item]
        if errors:
            raise serializers.ValidationError(errors)
        return result


def _json(value: Any) -> str:
    return json.dumps(value, sort_keys=True, default=str)


def serializer_of(page: Page | SettingsPage) -> type[PageSerializer]:
    """The serializer of a page: ``id``, the fields of the form, the read-only fields, the computed columns."""
    written = forms.editable_names(page)
    extra = dict(page.extra) if isinstance(page, Page) else {}
    attributes: dict[str, Any] = {}
    if isinstance(page, Page):
        attributes['id'] = serializers.IntegerField(source='pk', read_only=True)
    for name in written:
        found = forms.model_field(page.model, name)
        if isinstance(found, models.ForeignKey | models.ManyToManyField):
            several = isinstance(found, models.ManyToManyField)
            attributes[name] = ReferenceField(
                **({'many': True, 'allow_empty': found.blank} if several else {'allow_null': found.null}),
                model=found.remote_field.model,
                queryset=found.remote_field.model._default_manager.all(),
                required=not found.blank and not found.has_default(),
                label=str(found.verbose_name),
                help_text=str(found.help_text),
            )
    for name, factory in extra.items():
        attributes[name] = FormField(factory(None))
    kept = set(written) | set(extra) | {'id'}
    plain: list[str] = []
    for name in [*forms.read_only_names(page), *_shown_columns(page)]:
        if name in kept or name in plain or name in attributes:
            continue
        found = forms.model_field(page.model, name)
        if found is None or isinstance(found, models.ForeignKey):
            attributes[name] = ColumnField(_column(page, name))
        else:
            plain.append(name)
    meta = type(
        'Meta',
        (),
        {
            'model': page.model,
            'fields': ['id'] * isinstance(page, Page)
            + [n for n in written if n not in extra]
            + list(extra)
            + plain
            + [n for n in attributes if n != 'id' and n not in written and n not in extra],
            'read_only_fields': plain,
            'extra_kwargs': {
                name: {'validators': _validators(page, name)} for name in written if name not in attributes
            },
        },
    )
    shown = frozenset([*plain, *(n for n, f in attributes.items() if isinstance(f, ColumnField)), 'id'])
    title = ''.join(part.capitalize() for part in page.name.split('-'))
    return type(f'{title}Serializer', (PageSerializer,), {**attributes, 'Meta': meta, 'page': page, 'shown': shown})


def _validators(page: Page | SettingsPage, name: str) -> list[Any]:
    """The model field's own validators; uniqueness is checked by the action, under its lock."""
    found = forms.model_field(page.model, name)
    return [v for v in found.validators if not isinstance(v, UniqueValidator)] if found is not None else []


def _shown_columns(page: Page | SettingsPage) -> list[str]:
    if not isinstance(page, Page):
        return []
    return [c.name if isinstance(c, Column) else c for c in page.columns]


def _column(page: Page | SettingsPage, name: str) -> tables.ResolvedColumn:
    if isinstance(page, Page):
        for column in tables.columns(page):
            if column.name == name:
                return column
    found = forms.model_field(page.model, name)
    label = found.verbose_name if found is not None else name
    return tables.ResolvedColumn(name, label, 'text', lambda obj: getattr(obj, name), '', False, True)
