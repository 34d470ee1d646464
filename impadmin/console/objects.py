"""Objects as the writers hold them: locked with what a snapshot names, validated, deleted with what hangs on them."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, NoReturn

from django.core.exceptions import ValidationError
from django.db import DEFAULT_DB_ALIAS, models
from django.db.models.deletion import Collector, ProtectedError
from django.utils.translation import gettext

from impadmin.console.rehearsal import NAMED, Refused

if TYPE_CHECKING:
    from impadmin.console.actions import Actor
    from impadmin.console.page import Page

Lock = Callable[[type[models.Model], Any], Any]
"""The locked object of a model and primary key; raises Refused."""
Remove = Callable[[list[Any]], Any]
"""Deletes several objects."""


def lock(model: type[models.Model], pk: Any) -> Any:
    """The object, locked. Raises Refused when it is gone."""
    return locked(model).filter(pk=pk).first() or gone()


def locked(model: type[models.Model]) -> models.QuerySet[Any]:
    """Objects to lock, with the objects that a snapshot names."""
    found: models.QuerySet[Any] = model._base_manager.select_for_update(of=('self',))
    relations = [one.name for one in model._meta.concrete_fields if one.is_relation and one.editable]
    return found.select_related(*relations) if relations else found


def gone() -> NoReturn:
    """Raise Refused: somebody else deleted it."""
    raise Refused(gettext('It was deleted in the meantime.'))


def remover(actor: Actor, page: Page) -> Remove | None:
    """What deletes several objects that were judged before the first is deleted; None where that may judge wrongly."""
    if page.delete_many is not None:
        return functools.partial(page.delete_many, actor)
    if page.delete or page.undeletable or page.model.delete is not models.Model.delete:
        return None
    return _remove


def _remove(objs: list[Any]) -> None:
    collector = Collector(using=DEFAULT_DB_ALIAS, origin=objs[0])
    collector.collect(objs)
    collector.delete()


def demand_unused(objs: Sequence[models.Model]) -> None:
    """Raise ProtectedError with the first objects that refer to ``objs`` and keep them. Deleting finds out too, but
    only after it has loaded every one of them, which may be all users."""
    found: list[models.Model] = []
    for relation in objs[0]._meta.related_objects if objs else ():
        if relation.on_delete in (models.PROTECT, models.RESTRICT):
            using = relation.related_model._base_manager.filter(**{f'{relation.field.name}__in': objs})
            found += using.order_by('pk')[: NAMED + 1 - len(found)]
    if found:
        raise ProtectedError('in use', set(found))


def cascade(objs: Sequence[models.Model]) -> list[tuple[str, int]]:
    """What the database deletes together with ``objs``. Raises ProtectedError."""
    demand_unused(objs)
    collector = Collector(using=DEFAULT_DB_ALIAS)
    collector.collect(objs)
    counts: dict[type[models.Model], int] = {}
    for model, found in collector.data.items():
        counts[model] = counts.get(model, 0) + len(found)
    for queryset in collector.fast_deletes:
        counts[queryset.model] = counts.get(queryset.model, 0) + queryset.count()
    counts.pop(type(objs[0]), None)
    return [
        (str(model._meta.verbose_name_plural), count)
        for model, count in counts.items()
        if count and not model._meta.auto_created  # rows that only link two objects
    ]


def clean(candidate: Any, before: Any, exclude: set[str]) -> None:
    """Django's ``full_clean``, but the database is not asked again about what it holds already: that a reference that
    stays leads to something, that a unique value that stays is unique."""
    stays = [] if before is None else [f for f in candidate._meta.concrete_fields if _same(f, candidate, before)]
    errors: dict[str, list[Any]] = {}
    for check, known in (
        (candidate.clean_fields, {f.name for f in stays if f.is_relation}),
        (lambda exclude: candidate.clean(), set()),
        (candidate.validate_unique, {f.name for f in stays if f.unique}),
        (candidate.validate_constraints, _settled(candidate, {f.name for f in stays})),
    ):
        try:
            check(exclude=exclude | known | errors.keys())
        except ValidationError as error:
            error.update_error_dict(errors)
    if errors:
        raise ValidationError(errors)


def _settled(candidate: models.Model, stays: set[str]) -> set[str]:
    """Of the fields that stay, those that only belong to unique constraints of which nothing has changed."""
    fields = [(one, _fields(one)) for one in candidate._meta.constraints]
    settled = {name for one, names in fields if isinstance(one, models.UniqueConstraint) for name in names}
    for one, names in fields:
        if not isinstance(one, models.UniqueConstraint) or not names <= stays:
            settled -= names
    return settled


def _fields(constraint: models.BaseConstraint) -> set[str]:
    condition: models.Q | None = getattr(constraint, 'condition', None)
    return {*getattr(constraint, 'fields', ()), *(condition.referenced_base_fields if condition else ())}


def _same(field: models.Field[Any, Any], one: Any, other: Any) -> bool:
    return bool(getattr(one, field.attname) == getattr(other, field.attname))
