"""Tools > Service Activation, Control Center - Feature Services and Control Center - Network Services."""

from __future__ import annotations

from django.utils.translation import gettext_lazy

from impadmin.console.access import Right
from impadmin.console.page import Command, Help, ViewPage
from impadmin.console.registry import register
from impadmin.serviceability import actions, views
from impadmin.serviceability.forms import ActivationForm, ServerForm, ServiceForm

COMMANDS = tuple(
    Command(
        verb, label, actions.service_command(verb), scope='page', form=ServiceForm, touches=actions.users_of_chosen,
        danger=verb == 'stop',
    )
    for verb, label in (
        ('stop', gettext_lazy('Stop')),
        ('start', gettext_lazy('Start')),
        ('restart', gettext_lazy('Restart')),
    )
)  # fmt: skip
SERVICE_ACTIVATION = ViewPage(
    name='service-activation',
    console='serviceability',
    area='serviceability',
    menu='Tools > Service Activation',
    title=gettext_lazy('Service Activation'),
    right=Right.SERVICES,
    intro=gettext_lazy('Only activated feature services start. An activated service starts at once and with its node.'),
    help=Help(
        when=gettext_lazy(
            'After a node was added, and when a feature service is needed or no longer needed on a node.'
        ),
        effect=gettext_lazy(
            'An activated service starts at once; one that is deactivated stops, and its users lose what it served.'
        ),
        guide='2631-2643, 6687-6705',
    ),
    related=('control-center', 'control-center-network', 'cluster-topology'),
    view=views.service_activation,
    api=views.activation_api,
    commands=(
        Command(
            'save',
            gettext_lazy('Save'),
            actions.save_activation,
            scope='page',
            form=ActivationForm,
            touches=actions.users_of_node,
        ),
        Command(
            'set-default',
            gettext_lazy('Set to Default'),
            actions.set_to_default,
            scope='page',
            form=ServerForm,
            touches=actions.users_of_node,
        ),
    ),
)
FEATURE_SERVICES = ViewPage(
    name='control-center',
    console='serviceability',
    area='serviceability',
    menu='Tools > Control Center - Feature Services',
    title=gettext_lazy('Control Center - Feature Services'),
    right=Right.SERVICES,
    intro=gettext_lazy('Starts, stops and restarts the services that can be activated.'),
    help=Help(
        when=gettext_lazy('When a notification asks for a restart, or a service has failed.'),
        effect=gettext_lazy(
            'A restart interrupts what the service does: with Cisco XCP Connection Manager every client of the '
            'node has to connect again.'
        ),
        guide='5127-5142, 6087-6097',
    ),
    related=('service-activation', 'notifications', 'presence-topology'),
    view=views.feature_services,
    api=views.control_center_api,
    commands=COMMANDS,
)
NETWORK_SERVICES = ViewPage(
    name='control-center-network',
    console='serviceability',
    area='serviceability',
    menu='Tools > Control Center - Network Services',
    title=gettext_lazy('Control Center - Network Services'),
    right=Right.SERVICES,
    intro=gettext_lazy('Starts, stops and restarts the services that every node needs.'),
    help=Help(
        when=gettext_lazy('When a notification asks for a restart of Cisco XCP Router, or a service has failed.'),
        effect=gettext_lazy(
            'Stopping Cisco XCP Router stops every service that depends on it; restarting brings back those that ran.'
        ),
        guide='1788, 5148-5162, 8392',
    ),
    related=('control-center', 'notifications', 'presence-topology'),
    view=views.network_services,
    api=views.control_center_api,
    commands=COMMANDS,
)
register(SERVICE_ACTIVATION, FEATURE_SERVICES, NETWORK_SERVICES)
