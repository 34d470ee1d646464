"""``manage.py imp_listeners``: where clients reach a node, as JSON; with options, change it first.

The same as Listeners under System > Service Parameters > Cisco XCP Connection Manager, for the supervisor and scripts.
"""

from __future__ import annotations

import json
from typing import Any

from django.core.exceptions import ValidationError
from django.core.management.base import BaseCommand, CommandError, CommandParser

from engine.contract.restarts import parameter_value
from engine.contract.services import CONNECTION_MANAGER
from impadmin.console import actions, generations
from impadmin.system.models import Node

PARAMETERS = {'address': 'bind_address', 'client_port': 'client_port', 'direct_tls_port': 'direct_tls_port'}


class Command(BaseCommand):
    """Show, and change, the listeners of one node."""

    help = 'Prints the node name, listen address, client ports and IM domain as JSON; options change them first.'

    def add_arguments(self, parser: CommandParser) -> None:
        """Node and new values."""
        parser.add_argument('--node', default='', help='node name; default: the publisher')
        parser.add_argument('--address', help='listen address of the client ports')
        parser.add_argument('--client-port', type=int, help='port for STARTTLS')
        parser.add_argument('--direct-tls-port', type=int, help='port for TLS from the first byte')

    def handle(self, *args: Any, **options: Any) -> None:
        """Change what was asked, then print what is in force."""
        nodes = Node.objects.filter(name=options['node']) if options['node'] else Node.objects.filter(publisher=True)
        node = nodes.first()
        if node is None:
            raise CommandError(f'There is no node {options["node"] or "yet: run imp_setup first"}.')
        now = generations.compiled()
        shown = {key: parameter_value(now, node.name, CONNECTION_MANAGER, name) for key, name in PARAMETERS.items()}
        asked = {key: options[key] for key in PARAMETERS if options[key] not in (None, shown[key])}
        if asked:
            values = {PARAMETERS[key]: value for key, value in asked.items()}
            try:
                actions.do_set_parameters(actions.SYSTEM, CONNECTION_MANAGER, node, values)
            except ValidationError as error:
                raise CommandError(' '.join(error.messages)) from error
        self.stdout.write(json.dumps({'node': node.name, 'domain': now.default_domain, **shown, **asked}))
