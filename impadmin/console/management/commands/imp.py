"""``manage.py imp VERB ...``: the console on the command line (impadmin/console/cli.py)."""

from __future__ import annotations

import sys
from typing import Any

from django.core.management.base import BaseCommand, CommandParser
from django.db import DatabaseError, OperationalError, connection
from django.utils import translation

from impadmin.console import cli, registry
from impadmin.console.management.commands.createadmin import cli_actor

VERBS = (
    'pages',
    'words',
    'list',
    'show',
    'add',
    'set',
    'delete',
    'do',
    'history',
    'download',
    'export',
    'apply',
    'completion',
)
EXAMPLES = """examples:
  imp pages                                         every page, its resource name and its actions
  imp list domains name__contains=example           Find and List
  imp show messaging-settings                       a settings page; with a key: one object
  imp set messaging-settings im_enabled:=false --dry-run
  imp add end-users user_id=anna last_name=Meier password=...
  imp set service-parameters imp1 xcp_router max_sessions_per_user=5
  imp do control-center restart node=imp1 service=presence_engine
  imp export > configuration.yaml                   the whole configuration as code
  imp apply configuration.yaml --dry-run            what it would change here; without --dry-run: do it
  imp utils service list                            the guide's own words; "imp words" lists them
  source <(manage.py imp completion)                tab completion for bash

exit codes: 0 done, 1 wrong values, 2 wrong usage, 3 refused in the present state, 4 not found, 5 not allowed,
            6 waits for the approval of another administrator
"""
COMPLETION = """_imp() {
  local words=("${COMP_WORDS[@]}") i
  for ((i = 0; i < ${#words[@]}; i++)); do [[ ${words[i]} == imp ]] && break; done
  COMPREPLY=($(compgen -W "$("${words[@]:0:i+1}" completion "${words[@]:i+1:COMP_CWORD-i-1}" 2>/dev/null)" -- \
"${COMP_WORDS[COMP_CWORD]}"))
}
complete -o default -F _imp manage.py ./manage.py
"""


class Command(BaseCommand):
    """One command; messages to standard error, data to standard output."""

    help = 'The console on the command line: every page, object, action and job.'
    requires_system_checks: list[str] = []

    def create_parser(self, prog_name: str, subcommand: str, **kwargs: Any) -> CommandParser:
        """Examples as they are written, not wrapped."""
        import argparse

        parser = super().create_parser(prog_name, subcommand, epilog=EXAMPLES, **kwargs)
        parser.formatter_class = argparse.RawDescriptionHelpFormatter
        return parser

    def add_arguments(self, parser: CommandParser) -> None:
        """Verb, then whatever it takes."""
        parser.add_argument('words', nargs='*', metavar='WORD', help=', '.join(VERBS) + ', or the words of the guide')
        parser.add_argument('--format', choices=cli.FORMATS, default='table', help='default: table')
        parser.add_argument('--dry-run', action='store_true', help='show what would change, restart and be touched')
        parser.add_argument('--order', default='', help='list: field to sort by, "-" before it for descending')
        parser.add_argument('--limit', type=int, help='list: at most so many')
        parser.add_argument('--wide', action='store_true', help='list: every field')
        parser.add_argument('--output', default='', help='download: file to write, - for standard output')
        parser.add_argument('--node', default='', help='words of the guide: the node they are for')
        parser.add_argument('--prune', action='store_true', help='apply: delete what the lists of the file lack')
        parser.add_argument('--language', default='en', choices=('en', 'zh-hans', 'ja'), help='of messages')

    def handle(self, *args: Any, **options: Any) -> None:
        """Run it; ends the process with the exit code of what went wrong."""
        verb, *words = options['words'] or ['help']
        session = cli.Session(cli_actor(), sys.stdout, options['format'], options['dry_run'], options['node'])
        try:
            connection.ensure_connection()
        except OperationalError as error:
            self.stderr.write(f'The database cannot be reached (DATABASE_URL): {str(error).splitlines()[0]}')
            sys.exit(70)
        try:
            with translation.override(options['language']):
                self._run(session, verb, words, options)
        except cli.Failed as failed:
            self.stderr.write(str(failed))
            sys.exit(failed.code)
        except DatabaseError as error:
            self.stderr.write(f'The database refused: {str(error).splitlines()[0]}')
            sys.exit(70)
        except BrokenPipeError:
            sys.stderr.close()

    def _run(self, session: cli.Session, verb: str, words: list[str], options: dict[str, Any]) -> None:
        least = (
            {}
            if cli.is_phrase([verb, *words])
            else {
                'list': 1,
                'show': 1,
                'add': 1,
                'set': 1,
                'delete': 2,
                'do': 2,
                'history': 2,
                'download': 2,
                'apply': 1,
            }
        )
        if len(words) < least.get(verb, 0):
            raise cli.Failed(2, f'{verb}: too few words. "imp --help" shows examples.')
        if cli.is_phrase([verb, *words]):  # first: "show perf query counter" is no page
            cli.say(session, [verb, *words])
        elif verb == 'help':
            self.print_help('manage.py', 'imp')
        elif verb == 'pages':
            cli.pages(session)
        elif verb == 'words':
            cli.words_list(session)
        elif verb == 'list':
            cli.list_objects(session, words[0], words[1:], options['order'], options['limit'], options['wide'])
        elif verb == 'show':
            cli.show(session, words[0], words[1:])
        elif verb in ('add', 'set'):
            cli.write(session, 'POST' if verb == 'add' else 'PATCH', words[0], words[1:])
        elif verb == 'delete':
            cli.delete(session, words[0], words[1:])
        elif verb == 'do':
            cli.command(session, words[0], words[1], words[2:])
        elif verb == 'history':
            cli.history(session, words[0], words[1])
        elif verb == 'download':
            cli.download(session, words[0], words[1:], options['output'])
        elif verb == 'export':
            cli.export(session)
        elif verb == 'apply':
            cli.apply(session, words[0], options['prune'])
        elif verb == 'completion':
            self.stdout.write('\n'.join(candidates(words)) if words or options['words'][1:] else COMPLETION)
        else:
            cli.say(session, [verb, *words])


def candidates(words: list[str]) -> list[str]:
    """What may follow ``words``."""
    from django.utils.module_loading import autodiscover_modules

    autodiscover_modules('words')
    if words and words[0] in VERBS:
        if len(words) == 1 and words[0] not in ('pages', 'words', 'completion'):
            return sorted(page.name for page in registry.pages())
        if len(words) == 2 and words[0] == 'do':
            return [command.name for command in getattr(cli.find(words[1]), 'commands', ())]
        return []
    following = {known[len(words)] for known in cli.PHRASES if list(known[: len(words)]) == words != list(known)}
    return sorted([*(VERBS if not words else ()), *following])
