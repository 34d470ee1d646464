"""Writers of IM address domains, and the commands of the presence pages."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from django.core.exceptions import ValidationError
from django.db import IntegrityError, connection, transaction
from django.db.models import Sum
from django.utils.functional import Promise
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy, ngettext

from engine.contract.services import BY_KEY
from impadmin.console import jobs
from impadmin.console.actions import Actor, Refused
from impadmin.console.models import Job
from impadmin.console.page import Result
from impadmin.messaging import names
from impadmin.presence import default_domain, inventory
from impadmin.presence.change_guard import guard
from impadmin.presence.models import Domain, PeerDomain
from impadmin.presence.rules import name_error
from impadmin.system import maintenance


def create_domain(actor: Actor, values: Mapping[str, Any]) -> Domain:
    """Add an administrator-managed domain."""
    guard()
    domain = Domain(**values)
    domain.key = domain.name.lower()
    domain.configured = True
    domain.user_count = _users_in(domain.key)
    Domain.objects.filter(key=domain.key, local=False).delete()  # until now only peers had it
    _save(domain)
    return domain


def update_domain(actor: Actor, domain: Domain, values: Mapping[str, Any]) -> Domain:
    """Rename a domain that nobody uses."""
    guard()
    saved = Domain.objects.select_for_update().get(pk=domain.pk)
    if reason := kept(saved):
        raise Refused(str(reason))
    for name, value in values.items():
        setattr(domain, name, value)
    domain.key = domain.name.lower()
    domain.user_count = _users_in(domain.key)
    Domain.objects.filter(key=domain.key, local=False).delete()
    _save(domain)
    inventory.follow_peers()
    return domain


def delete_domain(actor: Actor, domain: Domain) -> None:
    """Delete a domain that nobody uses. One that a peer has stays listed as the peer's."""
    guard()
    saved = Domain.objects.select_for_update().get(pk=domain.pk)
    saved.user_count = max(saved.user_count, _users_in(saved.key))
    if reason := kept(saved):
        raise Refused(_('%(domain)s cannot be deleted: %(reason)s') % {'domain': saved.name, 'reason': reason})
    domain.delete()
    inventory.follow_peers()


def kept(domain: Domain) -> str | Promise:
    """Why a domain can be neither renamed nor deleted, or ''."""
    default = getattr(domain, 'default_key', None)  # annotated where many are shown
    if domain.key == (inventory.advanced().default_domain.lower() if default is None else default):
        return gettext_lazy('It is the default domain. Change the default domain on Advanced Configuration first.')
    if domain.user_count:
        return ngettext(
            'It is system managed: %(count)d user has an address in it.',
            'It is system managed: %(count)d users have an address in it.',
            domain.user_count,
        ) % {'count': domain.user_count}
    if abroad := peer_users(domain):
        return ngettext(
            'It is system managed: %(count)d user of a peer cluster has an address in it.',
            'It is system managed: %(count)d users of peer clusters have an address in it.',
            abroad,
        ) % {'count': abroad}
    return '' if domain.local else gettext_lazy('It is configured on a peer cluster only. Delete it there.')


def peer_users(domain: Domain) -> int:
    """Users of peers with an address in a domain."""
    found = getattr(domain, 'peer_user_count', None)  # annotated where many are shown
    if found is None:
        found = PeerDomain.objects.filter(key=domain.key).aggregate(all=Sum('users'))['all'] or 0
    return int(found)


def _users_in(key: str) -> int:
    with connection.cursor() as cursor:
        cursor.execute(
            'SELECT count(*) FROM end_user WHERE lower(substring(im_address FROM %s)) = %s '
            'OR lower(substring(directory_uri FROM %s)) = %s',
            ['[^@]+$', key, '[^@]+$', key],
        )
        return int(cursor.fetchone()[0])


def _save(domain: Domain) -> None:
    try:
        with transaction.atomic():
            domain.save()
    except IntegrityError as error:
        raise ValidationError({'name': _('The domain %(name)s already exists.') % {'name': domain.name}}) from error


def run_audit(actor: Actor, objects: Sequence[Any], data: Mapping[str, Any]) -> Result:
    """Rebuild the list of domains from the users now."""
    guard()
    counts = inventory.audit()
    text = ngettext(
        '%(domains)d domain, %(added)d new, %(in_use)d in use.',
        '%(domains)d domains, %(added)d new, %(in_use)d in use.',
        counts['domains'],
    )
    return Result(text % counts, data=counts)


# ---- Advanced Configuration


def change_errors(scheme: str, domain: str) -> dict[str, str]:
    """What stands against the change, by field; independent of confirmations."""
    settings = inventory.advanced()
    if error := name_error(domain) or names.given(domain.lower()):
        return {'default_domain': error}
    if (scheme, domain.lower()) == (settings.address_scheme, settings.default_domain.lower()):
        return {'default_domain': _('Nothing would change. Enter another default domain or choose another scheme.')}
    found = default_domain.examine(scheme, domain)
    if found.collisions:
        return {
            'address_scheme': _('The change is not possible: two users would get the same IM address. %(pairs)s')
            % {'pairs': default_domain.describe_collisions(found.collisions)}
        }
    return {}


def start_change(actor: Actor, objects: Sequence[Any], data: Mapping[str, Any]) -> Result:
    """Check and start the change as a background job. What it needs confirmed is an error until it is confirmed."""
    if default_domain.under_way():
        raise Refused(_('A change is under way already. Wait until it has ended, or cancel it.'))
    if default_domain.bulk_job_runs():
        raise Refused(_('A bulk job is running. Wait until it has ended, or stop it on Job Scheduler.'))
    domain, scheme = data['default_domain'].strip(), data['address_scheme']
    if errors := change_errors(scheme, domain):
        raise ValidationError(errors)
    settings = inventory.advanced()
    questions = confirmations(scheme, domain)
    missing = {name: text for name, text in questions.items() if not data.get(name)}
    if missing:
        raise ValidationError(missing)
    job = jobs.submit(
        actor,
        default_domain.KIND,
        {
            'default_domain': domain,
            'address_scheme': scheme,
            'old_default_domain': settings.default_domain,
            'old_address_scheme': settings.address_scheme,
        },
        _('Default domain %(domain)s') % {'domain': domain},
    )
    before = {'default_domain': settings.default_domain, 'address_scheme': settings.address_scheme}
    names = _(', ').join(_(BY_KEY[key].name) for key in default_domain.STOP_ORDER)
    return Result(
        _('The change has started.'),
        data={'job': job.pk},
        changed=(before, {'default_domain': domain, 'address_scheme': scheme}),
        impact=[(_('These services stop on every node and start again: %(services)s.') % {'services': names}, None)],
    )


def confirmations(scheme: str, domain: str) -> dict[str, str]:
    """What must be confirmed before the change, by form field: field -> text."""
    settings = inventory.advanced()
    found: dict[str, str] = {}
    if scheme == 'directory_uri' and settings.address_scheme != scheme:
        found['clients_support_it'] = _(
            'Every client must support Directory URI as IM address and more than one domain. '
            'Clients that do not support it stop working. Confirm that all clients support it.'
        )
    invalid = default_domain.examine(scheme, domain).invalid
    if invalid:
        names = _(', ').join(user_id for _key, user_id, _uri in invalid[:10])
        more = ngettext(
            '%(count)d user has no valid Directory URI and cannot sign in after the change: %(names)s.',
            '%(count)d users have no valid Directory URI and cannot sign in after the change: %(names)s.',
            len(invalid),
        )
        found['accept_invalid'] = more % {
            'count': len(invalid),
            'names': names + (' …' if len(invalid) > 10 else ''),
        }
    found['accept_outage'] = _(
        'All users are signed out while the services are stopped. They sign in again with their new IM address.'
    )
    return found


def addresses_changed(objects: Sequence[Any], data: Mapping[str, Any]) -> int:
    """How many users get another IM address by the change."""
    return default_domain.examine(data['address_scheme'], data['default_domain'].strip()).changed


def retry_change(actor: Actor, objects: Sequence[Any], data: Mapping[str, Any]) -> Result:
    """Go on with a change that stopped with an error."""
    job = default_domain.under_way()
    if job is None or not default_domain.has_stopped(job):
        raise Refused(_('There is no change that stopped with an error.'))
    maintenance.go_on(job)
    return Result(_('The change goes on.'), data={'job': job.pk})


def cancel_change(actor: Actor, objects: Sequence[Any], data: Mapping[str, Any]) -> Result:
    """Take the change back; possible until the new settings are saved."""
    job = default_domain.under_way()
    if job is None:
        raise Refused(_('There is no change under way.'))
    with transaction.atomic():
        job = Job.objects.select_for_update().get(pk=job.pk)
        if not default_domain.can_cancel(job):
            raise Refused(
                _('It is too late to cancel: the new IM addresses are in force, or the change is being taken back.')
            )
        default_domain.take_back(job)
    return Result(_('The change is being taken back.'), data={'job': job.pk})
