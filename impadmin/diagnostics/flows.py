"""The task flows of the guide whose pages exist. Steps of pages that do not exist yet are left out, not faked."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy, ngettext

from engine.contract.services import BULK_PROVISIONING, BY_KEY, State
from impadmin.bulkadmin.models import BulkFile
from impadmin.console import diagnosis, jobs
from impadmin.console.access import Right
from impadmin.console.facts import Facts
from impadmin.console.flows import Progress, Seen, Step, TaskFlow
from impadmin.console.models import Job, JobState
from impadmin.console.pace import pace
from impadmin.diagnostics.diagnosis import all_services, nodes_report, one_version, restarts, users_have_nodes
from impadmin.diagnostics.facts import cluster
from impadmin.presence import inventory
from impadmin.presence.rules import NOT_SET
from impadmin.system import maintenance, redundancy, replication
from impadmin.system.models import RedundancyGroup, ServiceCommand
from impadmin.system.state import is_running
from impadmin.ucm.diagnosis import directory_uris, uris_valid
from impadmin.ucm.models import EndUser

IMPORT, ADDRESSES = 'import_contacts', 'default_domain_change'
BY_ITSELF = gettext_lazy(
    'High Availability that is still enabled is disabled by the change itself. It waits for the sessions, then enables '
    'it again.'
)
GUIDED = gettext_lazy(
    'For a group with High Availability, Restart services on its page does all of this in one go: it stops half-way '
    'when something fails, and goes on with Retry.'
)


# ---- what steps find


def passes(run: Callable[[Facts], Any]) -> Callable[[Seen], Progress]:
    """Done when a test of System Troubleshooter finds no problem; else the first problem in words."""

    def done(seen: Seen) -> Progress:
        found = seen.facts.about(run)
        return Progress(not found, found[0].text if found else '')

    return done


def domain_is_set(seen: Seen) -> Progress:
    """The default domain is a domain."""
    domain = seen.facts(inventory.advanced).default_domain
    return Progress(domain != NOT_SET, domain)


def users_exist(seen: Seen) -> Progress:
    """Somebody can sign in."""
    return Progress(EndUser.objects.filter(im_enabled=True, active=True).exists())


def healthy(seen: Seen) -> Progress:
    """No test that stands on the dashboard fails."""
    failed = [problem for result, problem in seen.facts.about(diagnosis.attention) if result.outcome == 'failed']
    return Progress(not failed, failed[0].text if failed else '')


def signed_in(facts: Facts) -> Mapping[str, int]:
    """Users signed in on each node that reports."""
    return {node.name: node.users_online for node in facts(cluster).alive()}


def sessions_are_back(seen: Seen) -> Progress:
    """As many users are signed in on every node as were recorded (guide 1443-1457: ActiveJsmSessions)."""
    now, before = signed_in(seen.facts), seen.recorded('record')
    missing = {node: count for node, count in before.items() if now.get(node, 0) < count}
    text = _(', ').join(f'{node}: {now.get(node, 0)} / {count}' for node, count in before.items())
    return Progress(not missing, text)


def ha_is_off(seen: Seen) -> Progress:
    """High Availability is disabled in every group, and every node in contact with the database knows. A group that
    has it again since services were stopped or restarted had it disabled."""
    on = [group.name for group in seen.facts(redundancy.groups) if group.ha_enabled and not _again(group, seen)]
    if on:
        return Progress(False, _('Enabled: %(groups)s') % {'groups': diagnosis.listed(on)})
    changed = [node for group in seen.facts(redundancy.groups) if group.ha_changed_at for node in group.nodes]
    late = [one.node.name for one in replication.replicas(changed) if one.setup == replication.OLD]
    text = _('Not in force yet on: %(nodes)s') % {'nodes': diagnosis.listed(late)} if late else ''
    return Progress(not late, text)


def _again(group: RedundancyGroup, seen: Seen) -> bool:
    """Whether High Availability came back since Start, after services were stopped or restarted."""
    changed = group.ha_changed_at
    return (
        changed is not None
        and changed >= seen.since
        and ServiceCommand.objects.filter(requested_at__gte=seen.since, requested_at__lte=changed).exists()
    )


def ha_is_on_again(seen: Seen) -> Progress:
    """Every user has a session, and no group whose High Availability was disabled since Start waits for it."""
    if short := maintenance.missing_sessions():
        return Progress(False, _('Sessions are missing: %(sessions)s') % {'sessions': '; '.join(short)})
    off = [
        group.name
        for group in seen.facts(redundancy.groups)
        if not group.ha_enabled and group.server2_id and group.ha_changed_at and group.ha_changed_at >= seen.since
    ]
    return Progress(not off, _('Not enabled: %(groups)s') % {'groups': diagnosis.listed(off)} if off else '')


def ready_for_domains(seen: Seen) -> Progress:
    """One version everywhere, and addresses from the Directory URI (guide 1191-1194)."""
    found = passes(one_version)(seen)
    if not found.done:
        return found
    scheme = seen.facts(inventory.advanced).address_scheme
    text = _('The IM address scheme is not Directory URI: only the default domain has users.')
    return Progress(scheme == 'directory_uri', '' if scheme == 'directory_uri' else text)


def no_job_runs(seen: Seen) -> Progress:
    """No job reads or writes contact lists."""
    running = Job.objects.filter(kind__in=jobs.kinds('bat'), state=JobState.PROCESSING).count()
    text = ngettext('%(count)d job is running.', '%(count)d jobs are running.', running) % {'count': running}
    return Progress(not running, text if running else '')


def job_since(kind: str, *, completed: bool) -> Callable[[Seen], Progress]:
    """A job of this kind was submitted since Start; ``completed``: and the newest one is completed."""

    def done(seen: Seen) -> Progress:
        job = Job.objects.filter(kind=kind, submitted_at__gte=seen.since).order_by('-pk').first()
        if job is None:
            return Progress(False)
        names = {'id': job.pk, 'state': job.get_state_display(), 'percent': pace(job)['percent']}
        text = _('Job %(id)s: %(state)s, %(percent)s %%.') % names
        return Progress(not completed or job.state == JobState.COMPLETED, text)

    return done


def file_uploaded(seen: Seen) -> Progress:
    """A file for an import was uploaded since Start."""
    name = (
        BulkFile.objects.filter(transaction=IMPORT, uploaded_at__gte=seen.since)
        .order_by('-pk')
        .values_list('name', flat=True)
        .first()
    )
    return Progress(name is not None, name or '')


def bulk_service_runs(seen: Seen) -> Progress:
    """Cisco Bulk Provisioning Service runs on the publisher."""
    return Progress(is_running(BULK_PROVISIONING))


def restarted(seen: Seen) -> Progress:
    """Something was restarted since Start, nothing failed, and nothing waits for a restart."""
    found = ServiceCommand.objects.filter(requested_at__gte=seen.since, verb__in=('restart', 'start'))
    commands = list(found.select_related('node').order_by('pk')[:100])
    if not commands:
        return Progress(False)
    open_ = [one for one in commands if one.finished_at is None]
    waiting = seen.facts.about(restarts)
    if open_ or waiting:
        return Progress(False, waiting[0].text if waiting else _('A restart is under way.'))
    names = [f'{_(BY_KEY[one.service].name)} ({one.node.name})' for one in commands if one.service in BY_KEY]
    return Progress(True, diagnosis.listed(list(dict.fromkeys(names))))


def services_run(seen: Seen) -> Progress:
    """Every activated service runs on every node that reports."""
    down = [
        f'{_(BY_KEY[key].name)} ({node.name})'
        for node, key, state, _row in seen.facts(cluster).services()
        if state != State.RUNNING
    ]
    return Progress(not down, _('Not running: %(services)s') % {'services': diagnosis.listed(down)} if down else '')


# ---- steps that several flows have

RECORD = Step(
    name='record',
    title=gettext_lazy('Record the users of each node'),
    text=gettext_lazy('How many users are signed in now. At the end as many must be signed in again.'),
    page='presence-topology',
    record=signed_in,
)
RUNNING = Step(
    name='services',
    title=gettext_lazy('Every service runs again'),
    page='control-center',
    done=services_run,
)
SESSIONS = Step(
    name='sessions',
    title=gettext_lazy('Wait until the sessions are back'),
    text=gettext_lazy(
        'Signed in now / recorded, by node. After 30 minutes without sessions restart Cisco Presence Engine. Tick it '
        'yourself when users have gone home meanwhile.'
    ),
    page='presence-topology',
    guide='1443-1457',
    done=sessions_are_back,
    by_hand=True,
)
HA_OFF = Step(
    name='ha-off',
    title=gettext_lazy('Disable High Availability in every group'),
    text=gettext_lazy('Otherwise nodes fail over when their services stop. The nodes need up to two minutes.'),
    page='presence-redundancy-groups',
    guide='1235-1246, 1735-1756',
    done=ha_is_off,
)
HA_ON = Step(
    name='ha-on',
    title=gettext_lazy('Enable High Availability again'),
    text=gettext_lazy('Only when every user has a session: a client without one has no presence.'),
    page='presence-redundancy-groups',
    guide='1437-1471, 1889-1897',
    done=ha_is_on_again,
)
CERTIFICATES = Step(
    name='certificates',
    title=gettext_lazy('Regenerate the certificate cup-xmpp-s2s'),
    text=gettext_lazy(
        'So that servers of other domains find the new domain in it. Tick it when there is no XMPP federation by TLS.'
    ),
    page='certificates',
    guide='1388-1400',
)
IDLE = Step(
    name='idle',
    title=gettext_lazy('No bulk job is running'),
    text=gettext_lazy('The change waits for running jobs; new ones wait for the change.'),
    page='job-scheduler',
    done=no_job_runs,
)

FIRST_SET_UP = TaskFlow(
    name='first-set-up',
    console='admin',
    area='system',
    menu='System > Task Flows > First Set-Up',
    title=gettext_lazy('First Set-Up'),
    right=Right.CONFIGURATION,
    intro=gettext_lazy('From a fresh installation to users who can sign in.'),
    related=('system-dashboard', 'system-troubleshooter'),
    order=910,
    from_start=False,
    steps=(
        Step(
            name='domain',
            title=gettext_lazy('Set the default domain'),
            text=gettext_lazy('It is part of every IM address. Set it before there are users.'),
            page='advanced-configuration',
            guide='1294-1322',
            done=domain_is_set,
        ),
        Step(
            name='nodes',
            title=gettext_lazy('Every node reports'),
            text=gettext_lazy('Add the nodes, then start an engine with the name of each.'),
            page='cluster-topology',
            needs=(),
            done=passes(nodes_report),
        ),
        Step(
            name='services',
            title=gettext_lazy('Every activated service runs'),
            text=gettext_lazy('Activate the feature services you need on each node.'),
            page='service-activation',
            needs=('nodes',),
            done=passes(all_services),
        ),
        Step(
            name='presence',
            title=gettext_lazy('Decide who sees whom, and how long lists may be'),
            page='standard-configuration',
            guide='5496-5504, 5531-5569',
            needs=(),
        ),
        Step(
            name='messaging',
            title=gettext_lazy('Decide on instant messages'),
            text=gettext_lazy('Whether they are allowed, and whether they wait for users who are not signed in.'),
            page='messaging-settings',
            needs=(),
        ),
        Step(
            name='users',
            title=gettext_lazy('Add users'),
            page='end-users',
            needs=('domain',),
            done=users_exist,
        ),
        Step(
            name='assignment',
            title=gettext_lazy('Assign the users to nodes'),
            page='assign-presence-users',
            needs=('nodes', 'users'),
            done=passes(users_have_nodes),
        ),
        Step(
            name='restarts',
            title=gettext_lazy('Nothing waits for a restart'),
            page='notifications',
            needs=('services',),
            done=passes(restarts),
        ),
        Step(
            name='health',
            title=gettext_lazy('No important test fails'),
            text=gettext_lazy('Run System Troubleshooter after the first configuration and after changes.'),
            page='system-troubleshooter',
            guide='11215-11249',
            needs=('domain', 'services', 'assignment'),
            done=healthy,
        ),
    ),
)


def _address_change(name: str, title: Any, intro: Any, guide: str, menu: str, *first: Step) -> TaskFlow:
    """The flow of a change on Advanced Configuration; ``first``: steps before it."""
    change = Step(
        name='change',
        title=gettext_lazy('Make the change'),
        text=gettext_lazy(
            'It stops Cisco Sync Agent, Cisco Client Profile Agent, Cisco Presence Engine, Cisco SIP Proxy and Cisco '
            'XCP Router on every node in this order, changes every stored address, and starts on every node first '
            'Cisco XCP Router, Cisco SIP Proxy and Cisco Presence Engine, then the others. Retry and Cancel are on the '
            'page.'
        ),
        page='advanced-configuration',
        guide='1294-1322',
        done=job_since(ADDRESSES, completed=True),
    )
    return TaskFlow(
        name=name,
        console='admin',
        area='system',
        menu=menu,
        title=title,
        right=Right.CONFIGURATION,
        intro=intro,
        related=('advanced-configuration', 'presence-topology', 'control-center-network'),
        order=920,
        guide=guide,
        notes=(
            BY_ITSELF,
            gettext_lazy('The nodes make new certificates with the new domain when Cisco XCP Router starts again.'),
        ),
        steps=(*first, RECORD, IDLE, HA_OFF, change, CERTIFICATES, RUNNING, SESSIONS, HA_ON),
    )


DEFAULT_DOMAIN = _address_change(
    'default-domain-change',
    gettext_lazy('Change the Default Domain'),
    gettext_lazy('Every IM address gets the new domain. Users are disconnected while it is done.'),
    '1191-1292',
    'System > Task Flows > Change the Default Domain',
    Step(
        name='ready',
        title=gettext_lazy('The nodes are ready for several domains'),
        text=gettext_lazy(
            'Every node runs the same version, and users have a Directory URI. Tick it to go on without.'
        ),
        page='advanced-configuration',
        guide='1191-1194',
        done=ready_for_domains,
        by_hand=True,
    ),
)
ADDRESS_SCHEME = _address_change(
    'address-scheme-change',
    gettext_lazy('Change the IM Address Scheme'),
    gettext_lazy('Every IM address is formed anew. Users are disconnected while it is done.'),
    '1704-1717',
    'System > Task Flows > Change the IM Address Scheme',
    Step(
        name='valid',
        title=gettext_lazy('Every Directory URI is valid'),
        page='system-troubleshooter',
        done=passes(uris_valid),
    ),
    Step(
        name='unique',
        title=gettext_lazy('No two users have the same Directory URI'),
        page='system-troubleshooter',
        done=passes(directory_uris),
    ),
)
RESTART = TaskFlow(
    name='restart-services',
    console='admin',
    area='system',
    menu='System > Task Flows > Restart Services',
    title=gettext_lazy('Restart Services'),
    right=Right.SERVICES,
    intro=gettext_lazy('Saved changes take effect, and every user is back before you go on.'),
    related=('notifications', 'control-center', 'control-center-network'),
    order=930,
    guide='9942-9968',
    notes=(GUIDED,),
    steps=(
        RECORD,
        HA_OFF,
        Step(
            name='restart',
            title=gettext_lazy('Restart what waits for it'),
            text=gettext_lazy(
                'One service after the other: when both Cisco XCP Router and Cisco Presence Engine wait, the router '
                'restarts the engine with it.'
            ),
            page='notifications',
            done=restarted,
        ),
        RUNNING,
        SESSIONS,
        HA_ON,
    ),
)
IMPORT_CONTACTS = TaskFlow(
    name='import-contact-lists',
    console='admin',
    area='system',
    menu='System > Task Flows > Import Contact Lists',
    title=gettext_lazy('Import Contact Lists'),
    right=Right.BULK,
    intro=gettext_lazy('Contact lists exported from another cluster become contact lists of users here.'),
    related=('upload-download-files', 'contact-list-update', 'job-scheduler'),
    order=940,
    guide='10791-10824',
    steps=(
        Step(
            name='users',
            title=gettext_lazy('The users are here and assigned'),
            page='assign-presence-users',
            done=lambda seen: passes(users_have_nodes)(seen) if users_exist(seen).done else users_exist(seen),
        ),
        Step(
            name='limits',
            title=gettext_lazy('Check the maximum contact list size and the maximum watchers'),
            text=gettext_lazy(
                'Contacts over a limit are ignored. Raise the limits, or choose No Limit, before the import.'
            ),
            page='standard-configuration',
        ),
        Step(
            name='service',
            title=gettext_lazy('Cisco Bulk Provisioning Service runs on the publisher'),
            page='control-center',
            done=bulk_service_runs,
        ),
        Step(
            name='upload',
            title=gettext_lazy('Upload the CSV file'),
            page='upload-download-files',
            done=file_uploaded,
        ),
        Step(
            name='submit',
            title=gettext_lazy('Submit the job'),
            page='contact-list-update',
            done=job_since(IMPORT, completed=False),
        ),
        Step(
            name='ended',
            title=gettext_lazy('The job is completed'),
            page='job-scheduler',
            done=job_since(IMPORT, completed=True),
        ),
        Step(
            name='log',
            title=gettext_lazy('Read the log'),
            text=gettext_lazy('It names every contact that was ignored, with the reason.'),
            page='job-scheduler',
        ),
    ),
)
FLOWS = (FIRST_SET_UP, DEFAULT_DOMAIN, ADDRESS_SCHEME, RESTART, IMPORT_CONTACTS)
