"""REST from the page declarations: the same objects, rules, rights and writers as the pages.

Every view is built once at start for one page; ``urlpatterns`` has them all. Reads need the right to read the page,
everything else the right to write it. Writes go through ``actions``. ``?dry_run=true`` shows what a write would do.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from django.apps import apps
from django.core.exceptions import ObjectDoesNotExist, ValidationError
from django.db import models, transaction
from django.forms import FileField
from django.http import Http404
from django.urls import URLPattern, path
from django.utils.translation import gettext
from rest_framework import serializers, status
from rest_framework.generics import GenericAPIView
from rest_framework.parsers import MultiPartParser
from rest_framework.request import Request
from rest_framework.response import Response

from engine.contract.services import BY_KEY, SERVICES
from impadmin.console import (
    actions,
    api_bulk,
    api_schema,
    audit,
    bulkwork,
    downloads,
    exports,
    forms,
    idempotency,
    listview,
    parameter_values,
    registry,
    tables,
    visibility,
)
from impadmin.console.access import SAFE_METHODS, Requirement, grants_of, rest, signed_in
from impadmin.console.actions import Actor, Preview, actor_of
from impadmin.console.api_fields import PageSerializer, StrictJSONParser, is_json, serializer_of, wrong_type
from impadmin.console.api_filters import OwnFormat, PageFilter, Pagination, flag, one_of
from impadmin.console.bulkwork import Outcome
from impadmin.console.models import AuditEntry, StoredAnswer
from impadmin.console.page import BasePage, Command, Page, ParameterPage, SettingsPage, ViewPage

__all__ = ['urlpatterns']

ACTIONS = {'POST': 'add', 'PUT': 'change', 'PATCH': 'change', 'DELETE': 'delete'}
"""What a method does on a page."""
MOST_SELECTED = 10_000
"""Most objects of one bulk delete or selection command."""


class PageView(GenericAPIView[Any]):
    """Base of every REST view: the page decides who may."""

    page: BasePage
    parser_classes = [StrictJSONParser]
    filter_backends: Sequence[Any] = ()
    queryset: Any = None
    query: frozenset[str] | None = frozenset()
    """Query parameters of a request that reads; None: the view looks at them itself."""
    query_of_writes: frozenset[str] | None = frozenset({'dry_run'})

    claimed: StoredAnswer | None = None

    def dispatch(self, request: Any, *args: Any, **kwargs: Any) -> Any:
        """A write with an Idempotency-Key is one transaction together with its stored answer."""
        if request.method in SAFE_METHODS or idempotency.HEADER not in request.headers:
            return super().dispatch(request, *args, **kwargs)
        with transaction.atomic():
            answer: Any = super().dispatch(request, *args, **kwargs)
            if answer.status_code >= 500:
                transaction.set_rollback(True)
            elif self.claimed is not None:
                idempotency.store(self.claimed, answer.render())
        return answer

    def handle_exception(self, exc: Exception) -> Any:
        """An answer given before is not an error."""
        return exc.answer if isinstance(exc, idempotency.Replay) else super().handle_exception(exc)

    def initial(self, request: Request, *args: Any, **kwargs: Any) -> None:
        """A query parameter that nobody knows is refused: ``?dryrun=true`` must not delete."""
        super().initial(request, *args, **kwargs)
        if request.method not in self.allowed_methods:
            return  # 405 follows
        if request.method not in SAFE_METHODS and idempotency.HEADER in request.headers:
            self.claimed = idempotency.claim(request)
        known = self.query if request.method in SAFE_METHODS else self.query_of_writes
        if known is not None and (unknown := [name for name in request.query_params if name not in known]):
            raise serializers.ValidationError({name: [gettext('There is no such parameter.')] for name in unknown})

    def options(self, request: Any, *args: Any, **kwargs: Any) -> Response:
        """The methods, in the header Allow; everything else is in the schema."""
        return Response(status=status.HTTP_204_NO_CONTENT)

    action = ''
    """What a writing request does on the page; '': what the method says."""

    def requirement(self) -> Requirement:
        """See ``access.ApiPermission``."""
        method = str(self.request.method)
        return Requirement('page', self.page, self.action or ACTIONS.get(method, ''))

    def body(self, request: Request) -> Mapping[str, Any]:
        """The JSON object sent; {} for an empty body."""
        data = request.data
        if not isinstance(data, Mapping):
            raise serializers.ValidationError({'non_field_errors': [gettext('Send an object with named values.')]})
        return data.dict() if hasattr(data, 'dict') else data


class ModelView(PageView):
    """Base of the views of a Page."""

    page: Page
    own_query: frozenset[str] = frozenset()
    """Query parameters beside the filters."""

    def get_queryset(self) -> Any:
        """The page's objects with what the columns show."""
        related = {column.related for column in tables.columns(self.page) if column.related}
        related |= {
            name
            for name in forms.shown_names(self.page)
            if isinstance(forms.model_field(self.page.model, name), models.ForeignKey)
        }
        queryset = listview.base_queryset(self.page, grants_of(self.request))
        return queryset.select_related(*sorted(related)) if related else queryset

    def object(self) -> Any:
        """The object of the URL; 404 when there is none or the key has no valid form."""
        return self.again(self.kwargs['pk'])

    def again(self, pk: Any) -> Any:
        """One object as the page shows it."""
        try:
            return self.get_queryset().get(pk=self.page.model._meta.pk.to_python(pk))
        except (ObjectDoesNotExist, ValidationError, ValueError, OverflowError) as error:
            raise no_such_object() from error

    def shown(self, obj: Any) -> dict[str, Any]:
        """One object as JSON."""
        return dict(self.get_serializer(obj).data)


class CollectionView(ModelView):
    """``/api/v1/NAME/``"""

    filter_backends = (PageFilter,)
    pagination_class = Pagination
    query = None
    own_query = frozenset({'limit', 'offset'})

    def get(self, request: Request) -> Response:
        """List."""
        queryset = self.paginate_queryset(self.filter_queryset(self.get_queryset()))
        return self.get_paginated_response(self.get_serializer(queryset, many=True).data)

    def post(self, request: Request) -> Response:
        """Add."""
        serializer = self.get_serializer(data=self.body(request))
        serializer.is_valid(raise_exception=True)
        dry_run = flag(request, 'dry_run')
        obj = actions.do_create(actor_of(request), self.page, serializer.validated_data, dry_run=dry_run)
        if isinstance(obj, Preview):
            return preview(obj)
        url = request.build_absolute_uri(f'/api/v1/{self.page.name}/{obj.pk}/')
        data = {**self.shown(self.again(obj.pk)), **getattr(obj, 'shown_once', {})}
        return Response(data, status.HTTP_201_CREATED, headers={'Location': url})


class ExportView(ModelView):
    """``/api/v1/NAME/export/``: what the filters find, or only ``ids`` of it, as the page exports it."""

    filter_backends = (PageFilter,)
    query = None
    own_query = frozenset({'format', 'column', 'ids', 'cells', 'bom'})
    content_negotiation_class = OwnFormat

    def get(self, request: Request) -> Any:
        """The file, row by row."""
        given = request.query_params
        if (kind := given.get('format', 'csv')) not in exports.KINDS:
            raise serializers.ValidationError({'format': [one_of(exports.KINDS)]})
        if (cells := given.get('cells', 'protected')) not in ('protected', 'original'):
            raise serializers.ValidationError({'cells': [one_of(('protected', 'original'))]})
        queryset = self.filter_queryset(listview.base_queryset(self.page, grants_of(request)))
        if 'ids' in given:
            ids = [text for text in given['ids'].split(',') if text]
            queryset = queryset.filter(pk__in=[obj.pk for obj in selected(queryset, self.page, ids)])
        names = given.getlist('column')
        return exports.answer(
            request, self.page, queryset, kind, names, bom=flag(request, 'bom'), safe=cells == 'protected'
        )


class ObjectView(ModelView):
    """``/api/v1/NAME/PK/``"""

    def get(self, request: Request, pk: str) -> Response:
        """Read; the ETag goes into If-Match of a later write."""
        obj = self.object()
        return Response(self.shown(obj), headers={'ETag': f'"{audit.digest(obj)}"'})

    def put(self, request: Request, pk: str) -> Response:
        """Replace."""
        return self._save(request, partial=False)

    def patch(self, request: Request, pk: str) -> Response:
        """Change some fields."""
        return self._save(request, partial=True)

    def _save(self, request: Request, partial: bool) -> Response:
        obj = self.object()
        serializer = self.get_serializer(obj, data=self.body(request), partial=partial)
        serializer.is_valid(raise_exception=True)
        saved = actions.do_update(
            actor_of(request),
            self.page,
            obj,
            serializer.validated_data,
            expected=if_match(request),
            dry_run=flag(request, 'dry_run'),
        )
        if isinstance(saved, Preview):
            return preview(saved)
        fresh = self.again(saved.pk)
        return Response(self.shown(fresh), headers={'ETag': f'"{audit.digest(fresh)}"'})

    def delete(self, request: Request, pk: str) -> Response:
        """Delete."""
        done = actions.do_delete(
            actor_of(request),
            self.page,
            [self.object()],
            expected=if_match(request),
            dry_run=flag(request, 'dry_run'),
        )
        return preview(done) if isinstance(done, Preview) else Response(status=status.HTTP_204_NO_CONTENT)


class HistoryView(ModelView):
    """``/api/v1/NAME/PK/history/``"""

    pagination_class = Pagination
    query = frozenset({'limit', 'offset'})

    def get(self, request: Request, pk: str) -> Response:
        """Audit entries of one object, newest first; deleted objects have theirs too."""
        kept = AuditEntry.objects.filter(object_type=self.page.model._meta.label, object_id=str(pk)[:100])
        entries = visibility.of_pages(kept, grants_of(request))
        if not entries.exists():
            self.object()
        found = self.paginate_queryset(entries.order_by('-at', '-pk'))
        return self.get_paginated_response([audit.as_json(entry) for entry in found or ()])


class DeleteSelectedView(ModelView):
    """``/api/v1/NAME/delete-selected/``"""

    action = 'delete'

    def post(self, request: Request) -> Response:
        """Delete several: all or none."""
        data = self.body(request)
        refuse_unknown(data, {'ids'})
        objects = selected(self.get_queryset(), self.page, data.get('ids'))
        done = actions.do_delete(actor_of(request), self.page, objects, dry_run=flag(request, 'dry_run'))
        return preview(done) if isinstance(done, Preview) else Response({'deleted': done})


class BulkView(ModelView):
    """``/api/v1/NAME/bulk/``, see api_bulk.py"""

    filter_backends = (PageFilter,)
    query_of_writes = None

    def requirement(self) -> Requirement:
        """Each row asks for its own."""
        return Requirement('page', self.page)

    def post(self, request: Request) -> Response:
        """Do the rows, or one thing to everything the filters find."""
        data, dry_run, actor = self.body(request), flag(request, 'dry_run'), actor_of(request)
        if 'rows' in data:
            refuse_unknown(data, {'rows', 'atomic'})
            if len(request.query_params) > ('dry_run' in request.query_params):
                raise serializers.ValidationError({'rows': [gettext('Filters go with "all", not with rows.')]})
            if not isinstance(data.get('atomic', False), bool):
                raise serializers.ValidationError({'atomic': [gettext('Enter true or false.')]})
            outcome = api_bulk.run(actor, self.page, data['rows'], atomic=data.get('atomic', False), dry_run=dry_run)
            answer = api_bulk.as_json(outcome, data['rows'])
        else:
            outcome = self._everything(actor, request, data, dry_run)
            answer = outcome.as_json()
        if outcome.job is None:
            return Response(answer)
        headers = {'Location': request.build_absolute_uri(api_bulk.job_url(outcome.job))}
        return Response(answer, status.HTTP_202_ACCEPTED, headers=headers)

    def _everything(self, actor: Actor, request: Request, data: Mapping[str, Any], dry_run: bool) -> Outcome:
        refuse_unknown(data, {'all', 'do', 'values'})
        verb, values = data.get('do'), data.get('values', {})
        if data.get('all') is not True or verb not in ('update', 'delete') or (verb == 'delete' and values):
            text = gettext('Send "rows", or "all": true with "do": update and "values", or with "do": delete.')
            raise serializers.ValidationError({'non_field_errors': [text]})
        keys = list(self.filter_queryset(listview.base_queryset(self.page, actor.grants)).values_list('pk', flat=True))
        if not keys:
            return Outcome(0)
        if verb == 'delete':
            return bulkwork.delete(actor, self.page, keys, dry_run=dry_run)
        found = api_bulk.cleaned(self.get_serializer_class(), values, None, partial=True)
        return bulkwork.edit(actor, self.page, keys, found, dry_run=dry_run)


class CommandView(ModelView):
    """``/api/v1/NAME/[PK/]COMMAND/``"""

    parser_classes = [StrictJSONParser, MultiPartParser]
    page: Any
    command: Command

    def requirement(self) -> Requirement:
        """The command itself may be granted."""
        return Requirement('page', self.page, f'do/{self.command.name}')

    def post(self, request: Request, pk: str | None = None) -> Response:
        """Run the command."""
        data: Any = request.data if hasattr(request.data, 'getlist') else self.body(request)
        fields = set(self.command.form.base_fields) if self.command.form is not None else set()
        refuse_unknown(data, fields | ({'ids'} if self.command.scope == 'selection' else set()))
        objects: list[Any] = []
        if self.command.scope == 'object':
            objects = [self.object()]
        elif self.command.scope == 'selection':
            ids = data.getlist('ids') if hasattr(data, 'getlist') else data.get('ids')
            objects = selected(self.get_queryset(), self.page, ids)
        values: Mapping[str, Any] = {}
        if self.command.form is not None:
            form = self.command.form(data, request.FILES)
            if is_json(request):
                refuse_wrong_types(data, form.fields)
            if not form.is_valid():
                raise ValidationError(dict(form.errors.as_data()))
            values = form.cleaned_data
        dry_run = flag(request, 'dry_run')
        result = actions.do_command(actor_of(request), self.page, self.command, objects, values, dry_run=dry_run)
        if isinstance(result, Preview):
            return preview(result)
        return Response(
            {
                'message': str(result.message),
                'url': result.url,
                'data': {**audit.plain(dict(result.data)), **result.shown_once},
            }
        )


class SettingsView(PageView):
    """``/api/v1/NAME/`` of a settings page."""

    page: SettingsPage

    def get(self, request: Request) -> Response:
        """Read; the ETag goes into If-Match of a later write."""
        return self._answer(self.page.model._default_manager.get_or_create(pk=1)[0])

    def put(self, request: Request) -> Response:
        """Replace."""
        return self._save(request, partial=False)

    def patch(self, request: Request) -> Response:
        """Change some fields."""
        return self._save(request, partial=True)

    def _save(self, request: Request, partial: bool) -> Response:
        row = self.page.model._default_manager.get_or_create(pk=1)[0]
        serializer = self.get_serializer(row, data=self.body(request), partial=partial)
        serializer.is_valid(raise_exception=True)
        saved = actions.do_update_settings(
            actor_of(request),
            self.page,
            serializer.validated_data,
            expected=if_match(request),
            dry_run=flag(request, 'dry_run'),
        )
        return preview(saved) if isinstance(saved, Preview) else self._answer(saved)

    def _answer(self, row: Any) -> Response:
        return Response(self.get_serializer(row).data, headers={'ETag': f'"{audit.digest(row)}"'})


class ParameterListView(PageView):
    """``/api/v1/service-parameters/``"""

    def get(self, request: Request) -> Response:
        """Every server with its services and the declarations of their parameters."""
        return Response(
            {
                'servers': list(
                    apps.get_model('system', 'Node').objects.order_by('name').values_list('name', flat=True)
                ),
                'services': [
                    {
                        'service': service.key,
                        'name': service.name,
                        'parameters': [api_schema.parameter_json(param) for param in service.params],
                    }
                    for service in SERVICES
                    if service.params
                ],
            }
        )


class ParameterView(PageView):
    """``/api/v1/service-parameters/SERVER/SERVICE/`` and ``/api/v1/enterprise-parameters/``: name -> value."""

    def get(self, request: Request, server: str = '', service: str = '') -> Response:
        """The values in force; the ETag goes into If-Match of a later write."""
        return self._answer(parameter_values.in_force(service, self._node(server, service)))

    def patch(self, request: Request, server: str = '', service: str = '') -> Response:
        """Change some; null goes back to the default."""
        node = self._node(server, service)
        saved = actions.do_set_parameters(
            actor_of(request),
            service,
            node,
            self.body(request),
            expected=if_match(request),
            dry_run=flag(request, 'dry_run'),
        )
        return preview(saved) if isinstance(saved, Preview) else self._answer(saved)

    def _answer(self, values: Mapping[str, Any]) -> Response:
        return Response(values, headers={'ETag': f'"{parameter_values.fingerprint(values)}"'})

    def _node(self, server: str, service: str) -> Any:
        if not server:
            return None
        if service not in BY_KEY or not BY_KEY[service].params:
            raise Http404(gettext('There is no service %(name)s with parameters.') % {'name': service})
        node = apps.get_model('system', 'Node').objects.filter(name=server).first()
        if node is None:
            raise Http404(gettext('There is no server %(name)s.') % {'name': server})
        return node


class DataView(PageView):
    """``/api/v1/NAME/`` of a page with its own view."""

    page: ViewPage
    query = None

    def get(self, request: Request) -> Response:
        """What the page shows, as data."""
        assert self.page.api is not None
        return Response(self.page.api(request))


class FileView(ModelView):
    """``/api/v1/NAME/[PK/]file/FILE/``"""

    page: Any
    file: str
    query = None

    def get(self, request: Request, pk: str | None = None) -> Any:
        """The bytes of a file the page declares."""
        return self.page.files[self.file](request, None if pk is None else self.object())


def no_such_object() -> Http404:
    """404 of a primary key."""
    return Http404(gettext('There is no such object. It may have been deleted.'))


def preview(found: Preview) -> Response:
    """The answer of a dry run."""
    return Response(found.as_json())


def if_match(request: Request) -> str:
    """The fingerprint the client has seen, or ''."""
    value = request.headers.get('If-Match', '').strip()
    return '' if value == '*' else value.removeprefix('W/').strip('"')


def refuse_unknown(data: Mapping[str, Any], known: set[str]) -> None:
    """400 that names what nobody knows."""
    if errors := {name: [gettext('There is no such field.')] for name in data if name not in known}:
        raise serializers.ValidationError(errors)


def refuse_wrong_types(data: Mapping[str, Any], fields: Mapping[str, Any]) -> None:
    """400 that names values of another JSON type than their field has."""
    errors = {name: [text] for name in data if name in fields and (text := wrong_type(fields[name], data[name]))}
    if errors:
        raise serializers.ValidationError(errors)


def selected(queryset: Any, page: Page, ids: Any) -> list[Any]:
    """The objects whose primary keys were sent; every one must exist."""
    if not isinstance(ids, list) or not ids or len(ids) > MOST_SELECTED:
        raise serializers.ValidationError(
            {'ids': [gettext('Send a list of 1 to %(most)d primary keys.') % {'most': MOST_SELECTED}]}
        )
    keys = []
    for given in ids:
        try:
            if isinstance(given, bool) or not isinstance(given, int | str):
                raise ValueError
            keys.append(page.model._meta.pk.get_prep_value(page.model._meta.pk.to_python(given)))
            page.model._meta.pk.run_validators(keys[-1])
        except (ValidationError, ValueError, TypeError) as error:
            text = gettext('%(value)s is no primary key.') % {'value': str(given)[:100]}
            raise serializers.ValidationError({'ids': [text]}) from error
    found = {obj.pk: obj for obj in queryset.filter(pk__in=set(keys))}
    if missing := [str(key) for key in keys if key not in found]:
        text = gettext('These do not exist: %(keys)s.') % {'keys': ', '.join(missing[:20])}
        raise serializers.ValidationError({'ids': [text]})
    return list(found.values())


def view(base: type[PageView], page: BasePage, methods: Sequence[str], **attributes: Any) -> Any:
    """The view of one URL: ``base`` with its page, its serializer, its methods and its part of the schema."""
    if isinstance(page, Page | SettingsPage):
        attributes.setdefault('serializer_class', _serializers.setdefault(page.name, serializer_of(page)))
    if isinstance(page, Page) and takes_files(page):
        attributes.setdefault('parser_classes', [StrictJSONParser, MultiPartParser])
    title = ''.join(part.capitalize() for part in page.name.split('-'))
    made = type(
        f'{title}{base.__name__}',
        (base,),
        {'page': page, 'http_method_names': [*(m.lower() for m in methods), 'head', 'options'], **attributes},
    )
    api_schema.describe(made, base.__name__, page, methods)
    return rest(made.as_view())  # type: ignore[attr-defined]


def takes_files(page: Page) -> bool:
    """Whether adding or changing an object sends a file."""
    return any(isinstance(factory(None), FileField) for factory in page.extra.values())


_serializers: dict[str, type[PageSerializer]] = {}


def routes(page: BasePage) -> list[URLPattern]:
    """The REST routes of one page."""
    root = f'api/v1/{page.name}/'
    found: list[URLPattern] = []
    if isinstance(page, Page):
        found.append(path(root, view(CollectionView, page, ['GET', 'POST'] if 'add' in page.verbs else ['GET'])))
        if 'delete' in page.verbs:
            found.append(path(f'{root}delete-selected/', view(DeleteSelectedView, page, ['POST'])))
        if set(page.verbs) & {'add', 'edit', 'delete'}:
            found.append(path(f'{root}bulk/', view(BulkView, page, ['POST'])))
        found.append(path(f'{root}export/', view(ExportView, page, ['GET'])))
    elif isinstance(page, SettingsPage):
        found.append(path(root, view(SettingsView, page, ['GET', 'PUT', 'PATCH'])))
    elif isinstance(page, ParameterPage) and page.services:
        found.append(path(root, view(ParameterListView, page, ['GET'])))
        found.append(path(f'{root}<str:server>/<str:service>/', view(ParameterView, page, ['GET', 'PATCH'])))
    elif isinstance(page, ParameterPage):
        found.append(path(root, view(ParameterView, page, ['GET', 'PATCH'])))
    elif isinstance(page, ViewPage) and page.api is not None:
        found.append(path(root, view(DataView, page, ['GET'])))
    commands: Sequence[Command] = getattr(page, 'commands', ())
    for command in commands:
        part = f'<str:pk>/{command.name}/' if command.scope == 'object' else f'{command.name}/'
        found.append(path(root + part, view(CommandView, page, ['POST'], command=command)))
    if isinstance(page, Page):
        for name, download in page.files.items():
            part = f'file/{name}/' if downloads.of_page(download) else f'<str:pk>/file/{name}/'
            found.append(path(root + part, view(FileView, page, ['GET'], file=name)))
        methods = ['GET', *(['PUT', 'PATCH'] if 'edit' in page.verbs else []), *(['DELETE'] * ('delete' in page.verbs))]
        found.append(path(f'{root}<str:pk>/history/', view(HistoryView, page, ['GET'])))
        found.append(path(f'{root}<str:pk>/', view(ObjectView, page, methods)))
    return found


urlpatterns: list[URLPattern] = [
    path('api/v1/schema/', rest(api_schema.SchemaView.as_view()), name='api-schema'),
    path('api/docs/', signed_in(api_schema.docs_view), name='api-docs'),
    *(route for page in registry.pages() for route in routes(page)),
]
