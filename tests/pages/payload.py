"""What a browser would send for the forms of a page."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from django.core.files.uploadedfile import UploadedFile
from django.core.validators import MaxValueValidator, MinValueValidator
from django.db import models

from impadmin.console import forms, registry
from impadmin.console.page import Page, SettingsPage


def lists() -> list[Page]:
    """Every page with objects."""
    return [page for page in registry.pages() if isinstance(page, Page)]


def settings_pages() -> list[SettingsPage]:
    """Every settings page."""
    return [page for page in registry.pages() if isinstance(page, SettingsPage)]


def some(what: Sequence[Any], start: int, count: int) -> list[Any]:
    """A few of ``what``, others for each ``start``: every one meets many places without every place meeting all."""
    return [what[(start + step) % len(what)] for step in range(count)]


def encode(page: Page | SettingsPage, values: dict[str, Any]) -> dict[str, Any]:
    """Form data for ``values``: a box that is off is not sent, a reference is its key or name."""
    data: dict[str, Any] = {}
    for name, value in values.items():
        found = forms.model_field(page.model, name)
        nullable_number = found is not None and found.null and isinstance(found, models.IntegerField)
        if value is True:
            data[name] = 'on'
        elif value is False:
            continue
        elif value is None and nullable_number:
            data[f'{name}-nolimit'] = '1'
        elif value is None:
            data[name] = ''
        elif isinstance(value, models.Model):
            data[name] = value.pk
        elif isinstance(value, list) and value and isinstance(value[0], models.Model):
            data[name] = [one.pk for one in value]
        elif isinstance(value, UploadedFile | list | tuple):
            data[name] = value
        else:
            data[name] = str(value)
    return data


def present(page: Page | SettingsPage, obj: models.Model) -> dict[str, Any]:
    """The values a form of ``obj`` is drawn with."""
    found = {}
    for name in forms.editable_names(page):
        field = forms.model_field(page.model, name)
        assert field is not None
        found[name] = field.value_from_object(obj)
    return found


def sample(page: Page, n: int) -> dict[str, Any]:
    """The page's own valid values, and the defaults of what a form cannot leave out."""
    assert page.sample is not None
    fields = [forms.model_field(page.model, name) for name in forms.editable_names(page)]
    needed = [one for one in fields if one and one.has_default() and not (one.blank or one.null)]
    defaults = {one.name: one.get_default() for one in needed if not isinstance(one, models.BooleanField)}
    return {**defaults, **page.sample(n)}


def bad(page: Page | SettingsPage) -> dict[str, tuple[Any, ...]]:
    """Field -> values to refuse: what the model says of itself, and what the page declares."""
    found: dict[str, tuple[Any, ...]] = dict(page.bad)
    for name in forms.editable_names(page):
        field = forms.model_field(page.model, name)
        assert field is not None
        if values := (*_refused(field), *page.bad.get(name, ())):
            found[name] = values
    return found


def _refused(field: models.Field[Any, Any]) -> Iterator[Any]:
    if field.choices:
        yield 'no such choice'
    elif isinstance(field, models.ForeignKey):
        yield 'no such object'
    elif isinstance(field, models.CharField):
        yield from () if field.blank else ('',)
        yield from ('x' * (field.max_length + 1),) if field.max_length else ()
    elif isinstance(field, models.IntegerField | models.FloatField):
        lows = [one.limit_value for one in field.validators if isinstance(one, MinValueValidator)]
        highs = [one.limit_value for one in field.validators if isinstance(one, MaxValueValidator)]
        yield from ('many', *([max(lows) - 1] if lows else []), *([min(highs) + 1] if highs else []))


def create(client: Any, page: Page, n: int) -> Any:
    """Add the sample ``n`` through the form; returns the object."""
    before = set(page.model._default_manager.values_list('pk', flat=True))
    answer = client.post(registry.page_url(page, 'add'), encode(page, sample(page, n)))
    assert answer.status_code == 302 or b'data-secret' in answer.content, problems(answer)
    found = page.model._default_manager.exclude(pk__in=before)
    assert found.count() == 1
    return found.get()


def problems(answer: Any) -> Any:
    """What the form complains about, for the message of a failed assertion."""
    form = (answer.context or {}).get('form') if answer.context is not None else None
    return (answer.status_code, form.errors if form is not None else answer.content.decode()[:2000])
