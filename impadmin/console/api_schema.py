"""OpenAPI: what drf-spectacular cannot know of generated views, and the browsable page made from the schema."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any, Literal

from django.db.models import IntegerField
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.utils.translation import get_language, gettext, gettext_lazy
from drf_spectacular.extensions import OpenApiAuthenticationExtension
from drf_spectacular.generators import SchemaGenerator
from drf_spectacular.openapi import AutoSchema
from drf_spectacular.views import SpectacularAPIView

from engine.contract.params import Param
from engine.contract.services import ENTERPRISE_PARAMS, SERVICES
from impadmin.console.access import ApiPermission, Requirement
from impadmin.console.api_fields import form_schema
from impadmin.console.page import BasePage, Page, ParameterPage


def _row(verb: str, needed: str, **properties: Any) -> dict[str, Any]:
    return {
        'type': 'object',
        'properties': {'do': {'const': verb}, **properties},
        'required': ['do', needed],
        'additionalProperties': False,
    }


_KEY = {'type': ['integer', 'string']}
COMPONENTS: dict[str, Any] = {
    'Error': {
        'type': 'object',
        'description': gettext_lazy('What is wrong: in general, or by field. The request id is in the log, too.'),
        'properties': {
            'errors': {'type': 'object', 'additionalProperties': {'type': 'array', 'items': {'type': 'string'}}},
            'detail': {'type': 'string'},
            'request_id': {'type': 'string'},
        },
    },
    'Preview': {
        'type': 'object',
        'description': gettext_lazy('What a dry run would do.'),
        'properties': {
            'dry_run': {'type': 'boolean', 'const': True},
            'changes': {'type': 'array', 'items': {'type': 'object'}},
            'restarts': {'type': 'array', 'items': {'type': 'object'}},
            'impact': {'type': 'array', 'items': {'type': 'object'}},
            'users': {'type': ['integer', 'null'], 'description': gettext_lazy('How many users it touches.')},
            'message': {'type': 'string'},
            'objects': {'type': 'array', 'items': {'type': 'object'}},
            'refused': {'type': 'array', 'items': {'type': 'object'}},
            'not_tried': {'type': 'integer'},
        },
        'required': ['dry_run', 'changes', 'restarts', 'impact', 'users', 'message', 'objects', 'refused', 'not_tried'],
    },
    'Waiting': {
        'type': 'object',
        'description': gettext_lazy('An action that was not done yet: a request for approval.'),
        'properties': {
            'detail': {'type': 'string'},
            'request': {'type': 'integer'},
            'url': {'type': 'string'},
            'request_id': {'type': 'string'},
        },
        'required': ['detail', 'request', 'url'],
    },
    'Result': {
        'type': 'object',
        'description': gettext_lazy('What a command did.'),
        'properties': {
            'message': {'type': 'string'},
            'url': {'type': 'string'},
            'data': {'type': 'object', 'additionalProperties': {}},
        },
        'required': ['message', 'url', 'data'],
    },
    'BulkOutcome': {
        'type': 'object',
        'description': gettext_lazy('What became of each row, or the job that does them.'),
        'properties': {
            'dry_run': {'type': 'boolean'},
            'total': {'type': 'integer'},
            'job': {'type': ['integer', 'null']},
            'counts': {'type': 'object', 'additionalProperties': {'type': 'integer'}},
            'not_tried': {'type': 'integer'},
            'rows': {'type': 'array', 'items': {'type': 'object'}},
            'restarts': {'type': 'array', 'items': {'type': 'object'}},
            'impact': {'type': 'array', 'items': {'type': 'object'}},
            'users': {'type': ['integer', 'null'], 'description': gettext_lazy('How many users it touches.')},
        },
        'required': ['dry_run', 'total', 'job', 'counts', 'rows'],
    },
    'BulkRequest': {
        'description': gettext_lazy('Rows of their own, or one thing for all that the filters of the address find.'),
        'oneOf': [
            {
                'type': 'object',
                'properties': {
                    'rows': {
                        'type': 'array',
                        'minItems': 1,
                        'maxItems': 10_000,
                        'items': {
                            'oneOf': [
                                _row('create', 'values', values={'type': 'object'}),
                                _row('update', 'id', id=_KEY, values={'type': 'object'}, etag={'type': 'string'}),
                                _row('delete', 'id', id=_KEY, etag={'type': 'string'}),
                            ]
                        },
                    },
                    'atomic': {'type': 'boolean', 'default': False, 'description': gettext_lazy('All rows or none')},
                },
                'required': ['rows'],
                'additionalProperties': False,
            },
            {
                'type': 'object',
                'properties': {
                    'all': {'const': True},
                    'do': {'enum': ['update', 'delete']},
                    'values': {'type': 'object'},
                },
                'required': ['all', 'do'],
                'additionalProperties': False,
            },
        ],
    },
    'HistoryEntry': {
        'type': 'object',
        'properties': {
            **{name: {'type': 'string'} for name in ('actor', 'source', 'channel', 'action', 'page', 'object')},
            'at': {'type': 'string', 'format': 'date-time'},
            'before': {'type': ['object', 'null']},
            'after': {'type': ['object', 'null']},
        },
        'required': ['at', 'actor', 'action', 'before', 'after'],
    },
}
"""Shapes that many routes share."""
_IDS = {'type': 'array', 'items': {'oneOf': [{'type': 'integer'}, {'type': 'string'}]}, 'minItems': 1}
_OBJECT = {'type': 'object', 'additionalProperties': {}}
_VERBS = {
    ('CollectionView', 'GET'): ('list', gettext_lazy('Find and list')),
    ('CollectionView', 'POST'): ('create', gettext_lazy('Add')),
    ('ExportView', 'GET'): ('export', gettext_lazy('Download as a file')),
    ('ObjectView', 'GET'): ('retrieve', gettext_lazy('Read')),
    ('ObjectView', 'PUT'): ('update', gettext_lazy('Replace')),
    ('ObjectView', 'PATCH'): ('partial_update', gettext_lazy('Change some fields')),
    ('ObjectView', 'DELETE'): ('destroy', gettext_lazy('Delete')),
    ('HistoryView', 'GET'): ('history', gettext_lazy('History: who changed what, before and after')),
    ('DeleteSelectedView', 'POST'): ('delete_selected', gettext_lazy('Delete several, all or none')),
    ('BulkView', 'POST'): ('bulk', gettext_lazy('Add, change and delete many, with a verdict for each')),
    ('SettingsView', 'GET'): ('retrieve', gettext_lazy('Read')),
    ('SettingsView', 'PUT'): ('update', gettext_lazy('Replace')),
    ('SettingsView', 'PATCH'): ('partial_update', gettext_lazy('Change some fields')),
    ('ParameterListView', 'GET'): ('list', gettext_lazy('Servers, services and the declarations of their parameters')),
    ('ParameterView', 'GET'): ('values', gettext_lazy('Values in force by name')),
    ('ParameterView', 'PATCH'): ('set', gettext_lazy('Change some values; null goes back to the default')),
    ('DataView', 'GET'): ('read', gettext_lazy('What the page shows, as data')),
}
_MESSAGES = {
    400: gettext_lazy('Wrong values, by field'),
    401: gettext_lazy('No token, or one that is not valid'),
    403: gettext_lazy('Not allowed'),
    404: gettext_lazy('Not found'),
    409: gettext_lazy('Refused in the present state'),
    412: gettext_lazy('Changed by somebody else since it was read (If-Match)'),
    413: gettext_lazy('The body is too large'),
    415: gettext_lazy('The body has another type than the route takes'),
    422: gettext_lazy('The Idempotency-Key was used for another request'),
    503: gettext_lazy('The database does not answer'),
}
_EXPORT: dict[str, tuple[Any, dict[str, Any]]] = {
    'format': (gettext_lazy('Format'), {'type': 'string', 'enum': ['csv', 'xlsx', 'jsonl']}),
    'column': (gettext_lazy('Columns'), {'type': 'array', 'items': {'type': 'string'}}),
    'ids': (gettext_lazy('Only these of them: primary keys with commas between'), {'type': 'string'}),
    'cells': (
        gettext_lazy('original: not protected against what a spreadsheet would run'),
        {'type': 'string', 'enum': ['protected', 'original']},
    ),
    'bom': (gettext_lazy('Begin the CSV file with a byte order mark'), {'type': 'boolean'}),
}
"""Query parameters of an export."""
_READING = (400, 401, 403, 404, 503)


class PageSchema(AutoSchema):
    """Operations of the generated views. ``kind``: name of the base view; ``page``: the declaration."""

    kind = ''
    page: BasePage
    view: Any

    def get_operation_id(self) -> str:
        """Unique: page, verb or command."""
        return f'{self.page.name.replace("-", "_")}_{self._verb()[0]}'

    def get_tags(self) -> list[str]:
        """One tag a page."""
        return [self.page.name]

    def get_summary(self) -> str:
        """One line."""
        return self._verb()[1]

    def get_description(self) -> str:  # type: ignore[override]
        """Where it is in the console, and what a command asks."""
        return ' > '.join(gettext(part) for part in self.page.menu.split(' > '))

    def _verb(self) -> tuple[str, str]:
        command = getattr(self.view, 'command', None)
        if command is not None:
            return f'do_{command.name.replace("-", "_")}', str(command.label)
        if self.kind == 'FileView':
            one = '_of_one' if '{pk}' in self.path or '{id}' in self.path else ''
            return f'file_{self.view.file}{one}', gettext('File: %(name)s') % {'name': self.view.file}
        verb, text = _VERBS[self.kind, self.method]
        return verb, str(text)

    def _is_list_view(self, serializer: Any = None) -> bool:
        return self.kind in ('CollectionView', 'ExportView', 'HistoryView') and self.method == 'GET'

    def get_override_parameters(self) -> list[Any]:
        """Nothing beyond what ``_extra_parameters`` adds."""
        return []

    def _get_parameters(self) -> list[dict[str, Any]]:
        filtered = self.kind in ('CollectionView', 'ExportView')
        found = [p for p in super()._get_parameters() if filtered or p['in'] != 'query']
        if self.has_dry_run():
            text = gettext('true: show what would change, save nothing')
            found.append(_parameter('dry_run', 'query', text, {'type': 'boolean'}))
        if self.kind in ('ObjectView', 'SettingsView', 'ParameterView') and self.method != 'GET':
            text = gettext('ETag of what you read: refuses to overwrite a newer change')
            found.append(_parameter('If-Match', 'header', text))
        if self.method != 'GET':
            text = gettext('A name of your own for this request, e.g. a UUID: sent again, it is not done again')
            key = {'type': 'string', 'minLength': 1, 'maxLength': 255, 'pattern': '^[!-~]+$'}
            found.append(_parameter('Idempotency-Key', 'header', text, key))
        if self.kind == 'ExportView':
            found += [_parameter(name, 'query', text, shape) for name, (text, shape) in _EXPORT.items()]
        if self.kind == 'HistoryView':
            found += [_parameter(name, 'query', '', {'type': 'integer'}) for name in ('limit', 'offset')]
        return found

    def _get_request_body(self, direction: str = 'request') -> Any:
        if self.method not in ('POST', 'PUT', 'PATCH'):
            return None
        shape = self._body()
        if shape is None:
            return super()._get_request_body(direction)  # type: ignore[no-untyped-call]
        content = {'application/json': {'schema': shape}}
        if self.kind == 'CommandView' and any(
            inner.get('format') == 'binary' for inner in shape.get('properties', {}).values()
        ):
            content = {'multipart/form-data': {'schema': shape}}
        return {'content': content}

    def _body(self) -> dict[str, Any] | None:
        if self.kind == 'DeleteSelectedView':
            return {'type': 'object', 'properties': {'ids': _IDS}, 'required': ['ids']}
        if self.kind == 'BulkView':
            return dict(ref('BulkRequest'))
        if self.kind == 'ParameterView':
            return self._parameters_shape()
        if self.kind != 'CommandView':
            return None
        command = self.view.command
        properties: dict[str, Any] = {'ids': _IDS} if command.scope == 'selection' else {}
        required = list(properties)
        for name, found in (command.form.base_fields if command.form is not None else {}).items():
            properties[name] = form_schema(found)
            required += [name] if found.required else []
        shape: dict[str, Any] = {'type': 'object', 'properties': properties}
        return {**shape, 'required': required} if required else shape

    def _parameters_shape(self) -> dict[str, Any]:
        if isinstance(self.page, ParameterPage) and self.page.services:
            return _OBJECT
        return {'type': 'object', 'properties': {p.name: param_schema(p) for p in ENTERPRISE_PARAMS}}

    def _get_response_bodies(self, direction: Literal['request', 'response'] = 'response') -> dict[str, Any]:
        found: dict[str, Any] = self._good() or super()._get_response_bodies(direction)
        if self.kind == 'BulkView':
            told = gettext('A job does it, or it waits for approval; the address is in Location')
            found['202'] = _answer(told, {'anyOf': [ref('BulkOutcome'), ref('Waiting')]})
        elif self.has_dry_run():
            told = gettext('It waits for the approval of another administrator; the request is in Location')
            found['202'] = _answer(told, ref('Waiting'))
            kept = found['200']['content']['application/json']['schema'] if '200' in found else None
            found['200'] = _answer('', {'anyOf': [kept, ref('Preview')]} if kept else ref('Preview'))
        reads = self.method == 'GET' and self.kind not in ('FileView', 'ExportView')  # 409: no such column, no file yet
        for code in _READING if reads else _MESSAGES:
            found[str(code)] = _answer(_MESSAGES[code], ref('Error'))
        return found

    def has_dry_run(self) -> bool:
        """Whether ``dry_run=true`` asks for a preview instead of a write."""
        return self.method != 'GET'

    def _good(self) -> dict[str, Any] | None:
        """The good answer where the serializer does not say it; None otherwise."""
        if self.method == 'DELETE':
            return {'204': {'description': gettext('Deleted')}}
        if self.kind in ('FileView', 'ExportView'):
            return {'200': {'description': gettext('The bytes'), 'content': {'*/*': {}}}}
        shapes: dict[str, dict[str, Any]] = {
            'CommandView': ref('Result'),
            'DeleteSelectedView': {'type': 'object', 'properties': {'deleted': {'type': 'integer'}}},
            'BulkView': ref('BulkOutcome'),
            'ParameterListView': _OBJECT,
            'ParameterView': self._parameters_shape(),
            'DataView': _OBJECT,
            'HistoryView': _page_of(ref('HistoryEntry')),
        }
        return {'200': _answer('', shapes[self.kind])} if self.kind in shapes else None

    def _resolve_path_parameters(self, variables: list[str]) -> list[dict[str, Any]]:
        """Primary keys have the type of the model's; services are named."""
        shapes: dict[str, dict[str, Any]] = {
            'service': {'type': 'string', 'enum': [s.key for s in SERVICES if s.params]}
        }
        if isinstance(self.page, Page) and isinstance(self.page.model._meta.pk, IntegerField):
            shapes['id'] = {'type': 'integer', 'minimum': 1}
        return [{**_parameter(name, 'path', '', shapes.get(name)), 'required': True} for name in variables]


def add_components(result: dict[str, Any], generator: Any, request: Any, public: bool) -> dict[str, Any]:
    """The shared shapes join the document (settings: POSTPROCESSING_HOOKS)."""
    result['components']['schemas'] |= COMPONENTS
    return result


def ref(name: str) -> dict[str, str]:
    """A shape of COMPONENTS."""
    return {'$ref': f'#/components/schemas/{name}'}


def _answer(text: Any, shape: dict[str, Any]) -> dict[str, Any]:
    return {'description': str(text), 'content': {'application/json': {'schema': shape}}}


def _page_of(shape: dict[str, Any]) -> dict[str, Any]:
    link = {'type': ['string', 'null']}
    properties = {
        'count': {'type': 'integer'}, 'next': link, 'previous': link, 'results': {'type': 'array', 'items': shape},
    }  # fmt: skip
    return {'type': 'object', 'properties': properties, 'required': ['count', 'results']}


def _parameter(name: str, place: str, text: str, shape: dict[str, Any] | None = None) -> dict[str, Any]:
    return {'name': name, 'in': place, 'description': text, 'schema': shape or {'type': 'string'}}


def describe(view: type[Any], kind: str, page: BasePage, methods: Sequence[str]) -> None:
    """Give a generated view its part of the schema."""
    view.schema = type('Schema', (PageSchema,), {'kind': kind, 'page': page})()


class TokenScheme(OpenApiAuthenticationExtension):  # type: ignore[no-untyped-call]
    """Bearer tokens in the schema."""

    target_class = 'impadmin.console.tokens.TokenAuthentication'
    name = 'token'

    def get_security_definition(self, auto_schema: Any) -> dict[str, str]:
        """HTTP bearer."""
        return {'type': 'http', 'scheme': 'bearer'}


def param_schema(param: Param) -> dict[str, Any]:
    """JSON schema of one parameter."""
    shape: dict[str, Any] = {'type': {bool: 'boolean', int: 'integer', str: 'string'}[param.type]}
    shape |= {'type': [shape['type'], 'null'], 'default': param.default}
    shape['description'] = gettext(param.help or param.label)
    if param.low is not None:
        shape['minimum'] = param.low
    if param.high is not None:
        shape['maximum'] = param.high
    if param.choices:
        shape['enum'] = [*(key for key, _ in param.choices), None]
    return shape


def parameter_json(param: Param) -> dict[str, Any]:
    """The declaration of one parameter for a program."""
    return {
        'name': param.name,
        'label': param.label,
        'help': param.help,
        'type': param.type.__name__,
        'default': param.default,
        'low': param.low,
        'high': param.high,
        'choices': [{'value': key, 'label': text} for key, text in param.choices],
        'unit': param.unit,
        'scope': param.scope,
        'section': param.section,
        'restart': list(param.restart),
    }


class SchemaView(SpectacularAPIView):
    """``/api/v1/schema/``: OpenAPI 3, YAML or with ``?format=json`` JSON, for every signed-in user and token."""

    permission_classes = [ApiPermission]
    schema = None

    def requirement(self) -> Requirement:
        """Every role."""
        return Requirement('signed_in')


@functools.lru_cache(maxsize=4)
def _document(language: str) -> dict[str, Any]:
    document: dict[str, Any] = SchemaGenerator().get_schema(request=None, public=True)  # type: ignore[no-untyped-call]
    return document


def docs_view(request: HttpRequest) -> HttpResponse:
    """The schema as a page, rendered here."""
    document = _document(get_language() or 'en')
    return render(request, 'api_docs.html', {'groups': groups(document), 'title': gettext('REST interface')})


def groups(document: dict[str, Any]) -> list[dict[str, Any]]:
    """The operations by page."""
    from impadmin.console import registry

    found: dict[str, dict[str, Any]] = {}
    for url, item in document['paths'].items():
        for method, operation in item.items():
            if method not in ('get', 'post', 'put', 'patch', 'delete'):
                continue
            tag = operation['tags'][0]
            try:
                page: BasePage | None = registry.page(tag)
            except KeyError:
                page = None
            title = page.title if page is not None else tag
            group = found.setdefault(tag, {'tag': tag, 'title': title, 'page': page, 'operations': []})
            group['operations'].append(
                {
                    'id': operation['operationId'],
                    'method': method.upper(),
                    'url': url,
                    'summary': operation.get('summary', ''),
                    'parameters': [_flat(p['name'], p['schema'], p) for p in operation.get('parameters', [])],
                    'fields': _fields(document, _shape(operation.get('requestBody'))),
                    'answers': [
                        {
                            'status': code,
                            'text': answer.get('description', ''),
                            'fields': _fields(document, _shape(answer)) if code[0] == '2' else [],
                        }
                        for code, answer in operation['responses'].items()
                    ],
                }
            )
    return list(found.values())


def _shape(part: dict[str, Any] | None) -> dict[str, Any]:
    for content in (part or {}).get('content', {}).values():
        shape: dict[str, Any] = content.get('schema', {})
        return shape
    return {}


def _resolved(document: dict[str, Any], shape: dict[str, Any]) -> dict[str, Any]:
    while True:
        if '$ref' in shape:
            shape = document['components']['schemas'][shape['$ref'].rsplit('/', 1)[1]]
        elif len(shape.get('allOf', ())) == 1:
            shape = {**shape['allOf'][0], **{k: v for k, v in shape.items() if k != 'allOf'}}
        else:
            return shape


def _fields(document: dict[str, Any], shape: dict[str, Any]) -> list[dict[str, Any]]:
    shape = _resolved(document, shape)
    results = shape.get('properties', {}).get('results')
    if results is not None and 'items' in results:
        shape = _resolved(document, results['items'])
    required = set(shape.get('required', ()))
    return [
        _flat(name, _resolved(document, inner), {'required': name in required, **inner})
        for name, inner in shape.get('properties', {}).items()
    ]


def _types(shape: dict[str, Any]) -> list[str]:
    """The JSON types a shape allows, null left out."""
    own = shape.get('type', [])
    found = {own} if isinstance(own, str) else set(own)
    found |= {kind for part in shape.get('oneOf', ()) for kind in _types(part)}
    return sorted(found - {'null'})


def _flat(name: str, shape: dict[str, Any], holder: dict[str, Any]) -> dict[str, Any]:
    kind = ' | '.join(_types(shape))
    limits = [f'{word} {shape[key]}' for key, word in (('minimum', '≥'), ('maximum', '≤')) if key in shape]
    if 'maxLength' in shape:
        limits.append(f'≤ {shape["maxLength"]}')
    return {
        'name': name,
        'place': holder.get('in', ''),
        'type': kind + (f' ({shape["format"]})' if 'format' in shape else ''),
        'limits': ', '.join(limits),
        'values': [str(value) for value in shape.get('enum', ()) if value not in (None, '')],
        'required': bool(holder.get('required')),
        'read_only': bool(shape.get('readOnly')),
        'text': holder.get('description') or shape.get('description') or shape.get('title', ''),
    }
