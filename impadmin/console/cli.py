"""``manage.py imp``: every page, object, action and job from the command line.

A page is named as its REST resource. Values are written NAME=VALUE (text), NAME:=JSON (numbers, true, null, lists) or
NAME@FILE (the content of a file is sent). The exit code says how it ended: see ``EXITS``.
"""

from __future__ import annotations

import csv
import json
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from typing import Any, TextIO
from urllib.parse import quote

from django.utils.module_loading import autodiscover_modules
from django.utils.translation import gettext

from engine.contract.params import Param
from engine.contract.services import BY_KEY, ENTERPRISE_PARAMS
from impadmin.console import configuration, local_api, navigation, registry, tables
from impadmin.console.actions import Actor, Refused
from impadmin.console.foureyes import Waiting
from impadmin.console.local_api import Answer
from impadmin.console.page import BasePage, Page, ParameterPage, SettingsPage, ViewPage

EXITS = {400: 1, 403: 5, 404: 4, 405: 2, 409: 3, 412: 3, 413: 1, 415: 1}
"""HTTP status -> exit code: 1 wrong values, 2 wrong usage, 3 refused in this state, 4 not found, 5 not allowed;
6 waits for another administrator's approval, 0 done, 70 anything else."""
WAITS = 202
"""HTTP status of an action that waits for approval."""
PAGE_SIZE = 1000
FORMATS = ('table', 'json', 'csv')


class Failed(Exception):
    """The command did not do what it should; ``code`` is the exit code, the text is for standard error."""

    def __init__(self, code: int, text: str) -> None:
        super().__init__(text)
        self.code = code


class Session:
    """One command: who acts, how the result is shown."""

    def __init__(self, actor: Actor, out: TextIO, form: str = 'table', dry_run: bool = False, node: str = '') -> None:
        self.actor = actor
        self.out = out
        self.form = form
        self.node = node
        self.query = {'dry_run': 'true'} if dry_run else {}

    def call(self, method: str, path: str, body: Any = None, query: Any = None, files: Any = None) -> Answer:
        """One REST request; Failed with the page's own messages when it does not succeed."""
        answer = local_api.call(self.actor, method, f'/api/v1/{path}', body, {**self.query, **(query or {})}, files)
        if answer.status == WAITS and 'request' in answer.data:  # and not a job
            raise Failed(6, f'{answer.data["detail"]} {answer.data["url"]}')
        if answer.status >= 400:
            raise Failed(EXITS.get(answer.status, 70), problem(answer.data))
        return answer

    def show(self, data: Any, columns: Sequence[str] = ()) -> None:
        """Print rows, one object, or whatever else it is."""
        if self.form == 'json':
            json.dump(data, self.out, ensure_ascii=False, indent=2)
            self.out.write('\n')
        elif isinstance(data, list):
            self._rows(data, columns)
        elif isinstance(data, Mapping):
            self._rows([{'name': name, 'value': value} for name, value in data.items()], ('name', 'value'))
        else:
            self.out.write(f'{text(data)}\n')

    def _rows(self, rows: Sequence[Any], columns: Sequence[str]) -> None:
        names = list(columns) or list(dict.fromkeys(name for row in rows for name in row))
        cells = [[text(row.get(name)) for name in names] for row in rows]
        if self.form == 'csv':
            writer = csv.writer(self.out, lineterminator='\n')
            writer.writerow(names)
            writer.writerows([protect(cell) for cell in row] for row in cells)
            return
        widths = [max(map(width, column)) for column in zip(names, *cells, strict=True)] if names else []
        for row in [[name.replace('_', ' ') for name in names], ['-' * n for n in widths], *cells]:
            line = '  '.join(cell + ' ' * (room - width(cell)) for cell, room in zip(row, widths, strict=True))
            self.out.write(line.rstrip() + '\n')


def text(value: Any) -> str:
    """One value in one cell."""
    if value is None:
        return ''
    if isinstance(value, bool):
        return 'true' if value else 'false'
    if isinstance(value, str):
        return ' '.join(value.split('\n'))
    return json.dumps(value, ensure_ascii=False) if isinstance(value, list | dict) else str(value)


def protect(cell: str) -> str:
    """A cell no spreadsheet takes for a formula."""
    return f"'{cell}" if cell[:1] in ('=', '+', '-', '@', '\t', '\r') and not cell[1:2].isdigit() else cell


def width(cell: str) -> int:
    """Columns of a terminal that ``cell`` takes: CJK characters take two."""
    import unicodedata

    return sum(2 if unicodedata.east_asian_width(c) in 'WF' else 1 for c in cell)


def problem(data: Any) -> str:
    """The messages of a refused request, one a line, each with its field."""
    if isinstance(data, Mapping) and isinstance(data.get('errors'), Mapping):
        lines = []
        for name, found in data['errors'].items():
            prefix = '' if name in ('__all__', 'non_field_errors') else f'{name}: '
            lines += [f'{prefix}{one}' for one in found]
        return '\n'.join(lines)
    return str(data.get('detail', data)) if isinstance(data, Mapping) else str(data)


def find(name: str) -> BasePage:
    """The page called ``name``; Failed with similar names otherwise."""
    import difflib

    try:
        return registry.page(name)
    except KeyError:
        names = [page.name for page in registry.pages()]
        close = difflib.get_close_matches(name, names, 3, 0.5)
        hint = f' Did you mean {" or ".join(close)}?' if close else ''
        raise Failed(2, f'There is no page {name}.{hint} "imp pages" lists them.') from None


def kind(page: BasePage) -> str:
    """What a page is, in one word."""
    kinds = ((Page, 'list'), (SettingsPage, 'settings'), (ParameterPage, 'parameters'), (ViewPage, 'view'))
    return next(word for base, word in kinds if isinstance(page, base))


def values(words: Iterable[str], stack: ExitStack) -> tuple[dict[str, Any], dict[str, Any]]:
    """(values, open files) from NAME=VALUE, NAME:=JSON, NAME@FILE."""
    found: dict[str, Any] = {}
    files: dict[str, Any] = {}
    for word in words:
        places = [(word.find(sign), sign) for sign in (':=', '=', '@') if word.find(sign) > 0]
        if not places:
            raise Failed(2, f'{word}: write NAME=VALUE, NAME:=JSON or NAME@FILE.')
        place, sign = min(places)
        name, value = word[:place], word[place + len(sign) :]
        if sign == '=':
            found[name] = value
        elif sign == ':=':
            try:
                found[name] = json.loads(value)
            except ValueError as error:
                raise Failed(2, f'{name}: {value!r} is not JSON: {error}.') from None
        else:
            try:
                files[name] = stack.enter_context(open(value, 'rb'))  # noqa: SIM115
            except OSError as error:
                raise Failed(2, f'{name}: {value} cannot be read: {error.strerror}.') from None
    return found, files


def typed(params: Iterable[Param], given: Mapping[str, Any]) -> dict[str, Any]:
    """Text of NAME=VALUE turned into what the parameter is; REST says what is wrong with the rest."""
    types = {param.name: param.type for param in params}
    result = dict(given)
    for name, value in given.items():
        if not isinstance(value, str) or types.get(name) not in (int, bool):
            continue
        if types[name] is bool and value.lower() in ('true', 'false'):
            result[name] = value.lower() == 'true'
        elif types[name] is int and value.lstrip('-').isdecimal():
            result[name] = int(value)
    return result


# ---- the guide's own words

PHRASES: dict[tuple[str, ...], tuple[Callable[[Session, Sequence[str]], None], str, str]] = {}
"""First words -> (function of the words that follow, what may follow, help); from each area's ``words.py``."""


def phrase(
    words: str, usage: str, about: str
) -> Callable[[Callable[[Session, Sequence[str]], None]], Callable[[Session, Sequence[str]], None]]:
    """Decorator: this function is a command of the product's CLI, called by the guide's own words."""

    def register(function: Callable[[Session, Sequence[str]], None]) -> Callable[[Session, Sequence[str]], None]:
        PHRASES[tuple(words.split())] = (function, usage, about)
        return function

    return register


def is_phrase(words: Sequence[str]) -> bool:
    """Whether ``words`` begin with one of them."""
    autodiscover_modules('words')
    return any(tuple(words[: len(known)]) == known for known in PHRASES)


def say(session: Session, words: Sequence[str]) -> None:
    """Run the phrase ``words`` begin with; the longest one wins."""
    autodiscover_modules('words')
    for size in range(len(words), 0, -1):
        if found := PHRASES.get(tuple(words[:size])):
            found[0](session, words[size:])
            return
    near = sorted(' '.join(known) for known in PHRASES if known[0] == words[0])
    hint = 'There are: ' + '; '.join(near) + '.' if near else '"imp words" lists the commands.'
    raise Failed(2, f'There is no command "{" ".join(words)}". {hint}')


def words_list(session: Session) -> None:
    """The commands of the product's CLI that exist here."""
    autodiscover_modules('words')
    session.show(
        [
            {'command': ' '.join(known), 'usage': usage, 'about': about}
            for known, (_, usage, about) in sorted(PHRASES.items())
        ]
    )


# ---- verbs


def pages(session: Session) -> None:
    """Every page with its resource name."""
    session.show(
        [
            {
                'page': page.name,
                'kind': kind(page),
                'menu': gettext('Nothing obeys this page yet') if page.waits_for else navigation.menu_path(page),
                'actions': ' '.join(command.name for command in getattr(page, 'commands', ())),
            }
            for page in sorted(registry.pages(), key=lambda page: page.name)
        ]
    )


def list_objects(session: Session, name: str, words: Sequence[str], order: str, most: int | None, wide: bool) -> None:
    """Find and List: words are REST filters, e.g. name__contains=x, or q=text."""
    page = find(name)
    if not isinstance(page, Page):
        show(session, name, [])
        return
    query: dict[str, list[str]] = {}
    for word in words:
        field, sign, value = word.partition('=')
        if not sign:
            raise Failed(2, f'{word}: write FIELD=VALUE, FIELD__contains=VALUE or q=TEXT.')
        query.setdefault(field, []).append(value)
    rows = list(_walk(session, page, {**query, **({'ordering': order} if order else {})}, most))
    columns = [] if wide or session.form == 'json' else _columns(page, rows)
    session.show(rows, columns)


def _walk(session: Session, page: Page, query: Mapping[str, Any], most: int | None) -> Iterator[dict[str, Any]]:
    done = 0
    while most is None or done < most:
        size = PAGE_SIZE if most is None else min(PAGE_SIZE, most - done)
        data = session.call('GET', f'{page.name}/', query={**query, 'limit': size, 'offset': done}).data
        yield from data['results']
        done += len(data['results'])
        if len(data['results']) < size:
            return


def _columns(page: Page, rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """The key and the columns the list page shows by default, as far as REST has them."""
    known = rows[0] if rows else {}
    key = page.model._meta.pk.name
    names = [column.name for column in tables.columns(page) if column.default and (column.name in known or not rows)]
    return list(dict.fromkeys([*([key] if key in known or not rows else []), *names]))


def _path(page: BasePage, keys: Sequence[str]) -> str:
    return '/'.join([page.name, *(quote(key, safe='') for key in keys)]) + '/'


def show(session: Session, name: str, keys: Sequence[str]) -> None:
    """One object, a settings form, the parameters of SERVER SERVICE, or the data of a page."""
    page = find(name)
    if isinstance(page, ViewPage) and page.api is None:
        raise Failed(2, f'{name} has nothing to show here.')
    answer = session.call('GET', _path(page, keys))
    data = answer.data
    if isinstance(page, Page) and not keys:
        raise Failed(2, f'{name} is a list: give the key of one object, or use "imp list {name}".')
    if session.form != 'json' and isinstance(data, Mapping) and len(data) == 1:
        data = next(iter(data.values()))
    session.show(data if not isinstance(data, list) or all(isinstance(one, Mapping) for one in data) else list(data))


def write(session: Session, method: str, name: str, words: Sequence[str]) -> None:
    """Add (POST) or change (PATCH): keys come first, then values."""
    page = find(name)
    keys = [word for word in words if not any(sign in word for sign in ('=', '@'))]
    with ExitStack() as stack:
        given, files = values([word for word in words if word not in keys], stack)
        if isinstance(page, ParameterPage):
            service = keys[1] if len(keys) > 1 else ''
            params = BY_KEY[service].params if service in BY_KEY else () if service else ENTERPRISE_PARAMS
            given = typed(params, given)
        answer = session.call(method, _path(page, keys), given, files=files)
    written(session, answer)


def written(session: Session, answer: Answer) -> None:
    """What a write answered, or what it would do."""
    data = answer.data
    if not (isinstance(data, Mapping) and data.get('dry_run')):
        session.show(data)
        return
    if session.form == 'json':
        session.show(data)
        return
    session.out.write('Nothing was changed. This would happen:\n')
    session.out.writelines(f'  {line}\n' for line in told(data))


def told(data: Mapping[str, Any]) -> Iterator[str]:
    """A preview (``rehearsal.Preview.as_json``) in lines."""
    for one in data['objects']:
        if len(data['objects']) > 1 or not one['changes']:
            yield f'{one["action"]}: {one["object"]}'
        for change in one['changes']:
            yield f'{change["field"]}: {change["before"]} -> {change["after"]}'
    for one in data['refused']:
        yield f'refused: {one["object"]}: {" ".join(reason["text"] for reason in one["reasons"])}'
    if data['not_tried']:
        yield f'not tried one by one: {data["not_tried"]}'
    for one in data['restarts']:
        yield f'restart needed: {one["service"]} on {", ".join(one["nodes"])}'
    if data['users'] is not None:
        yield f'users touched: {data["users"]}'
    for one in data['impact']:
        yield one['text'] if one['count'] is None else f'{one["text"]}: {one["count"]}'
    if data['message']:
        yield f'when it is done: {data["message"]}'


def delete(session: Session, name: str, keys: Sequence[str]) -> None:
    """Delete all of the objects or none."""
    page = find(name)
    answer = session.call('POST', f'{page.name}/delete-selected/', {'ids': list(keys)})
    if session.query:
        written(session, answer)
    else:
        session.show({'deleted': answer.data['deleted']})


def command(session: Session, name: str, verb: str, words: Sequence[str]) -> None:
    """An action of a page, of one object (its key first) or of several."""
    page = find(name)
    known = {one.name: one for one in getattr(page, 'commands', ())}
    if verb not in known:
        raise Failed(2, f'{name} has no action {verb}. It has: {", ".join(known) or "none"}.')
    keys = [word for word in words if not any(sign in word for sign in ('=', '@'))]
    scope = known[verb].scope
    if scope == 'object' and len(keys) != 1:
        raise Failed(2, f'{name} {verb} is for one object: give its key.')
    if scope == 'page' and keys:
        raise Failed(2, f'{keys[0]}: write NAME=VALUE.')
    with ExitStack() as stack:
        given, files = values([word for word in words if word not in keys], stack)
        body = {**given, 'ids': keys} if scope == 'selection' else given
        path = _path(page, [*(keys if scope == 'object' else []), verb])
        answer = session.call('POST', path, body, files=files)
    data = answer.data
    if session.form == 'json' or session.query:
        written(session, answer)
        return
    if data.get('message'):
        session.out.write(f'{data["message"]}\n')
    if data.get('data'):
        session.show(data['data'])


def history(session: Session, name: str, key: str) -> None:
    """Who changed an object, newest first."""
    page = find(name)
    data = session.call('GET', f'{page.name}/{quote(key, safe="")}/history/').data
    session.show(data['results'] if isinstance(data, Mapping) and 'results' in data else data)


def download(session: Session, name: str, words: Sequence[str], target: str) -> None:
    """A file a page offers: [KEY] FILE; to ``target``, or '-' for standard output."""
    page = find(name)
    *keys, file = words
    answer = session.call('GET', _path(page, [*keys, 'file', file]))
    if target == '-':
        sys.stdout.buffer.write(answer.content)
        return
    path = Path(target or answer.file)
    path.write_bytes(answer.content)
    session.out.write(f'{path}: {len(answer.content)} {gettext("bytes")}\n')


def export(session: Session) -> None:
    """The whole configuration as YAML (impadmin/console/configuration.py), or as JSON."""
    document = configuration.export(session.actor)
    if session.form == 'json':
        session.show(document)
    else:
        session.out.write(configuration.dump(document))


def apply(session: Session, name: str, prune: bool) -> None:
    """Make the configuration what the file says ('-' reads standard input): all of it, or with a problem nothing."""
    try:
        data = sys.stdin.buffer.read() if name == '-' else Path(name).read_bytes()
        document = configuration.load(data)
    except OSError as error:
        raise Failed(2, f'{name} cannot be read: {error.strerror}.') from None
    except ValueError as error:
        raise Failed(1, f'{name}: {error}') from None
    try:
        plan = configuration.apply(session.actor, document, prune=prune, dry_run=bool(session.query))
    except Waiting as waiting:
        raise Failed(6, f'{waiting} {waiting.url}') from None
    except Refused as error:
        raise Failed(3, str(error)) from None
    if plan.problems:
        raise Failed(1, '\n'.join([*plan.problems, 'Nothing was changed.']))
    signs = {'add': '+', 'change': '~', 'delete': '-'}
    if session.form != 'table':
        session.show([{**asdict(step), 'changes': [list(change) for change in step.changes]} for step in plan.steps])
        return
    for step in plan.steps:
        session.out.write(f'{signs[step.verb]} {step.where} {step.name}\n')
        for field, before, after in step.changes:
            shown = text_of_change(before, after) if step.verb == 'change' else text(after)
            session.out.write(f'    {field}: {shown}\n')
    count = Counter(step.verb for step in plan.steps)
    done = 'would be ' if session.query else ''
    session.out.write(
        f'{count["add"]} {done}added, {count["change"]} {done}changed, {count["delete"]} {done}deleted.\n'
        if plan.steps
        else 'The configuration is as the file says: nothing to do.\n'
    )


def text_of_change(before: Any, after: Any) -> str:
    """Old and new value."""
    return f'{text(before) or "(empty)"} -> {text(after) or "(empty)"}'
