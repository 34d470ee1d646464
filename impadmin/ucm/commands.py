"""Commands of User Management."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from django.core.exceptions import ValidationError
from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from impadmin.console.actions import Actor, Refused
from impadmin.console.page import Result
from impadmin.system import redundancy
from impadmin.ucm import actions
from impadmin.ucm.assignment import NONE, assign_automatically, mode
from impadmin.ucm.models import EndUser


def assign_consequence(users: Sequence[EndUser]) -> str:
    """Who is signed out by a move."""
    moving = sum(1 for user in users if user.home_node_id is not None)
    if not moving:
        return ''
    return ngettext(
        '%(count)d of them is assigned already. If the user moves, open sessions on the old node are closed.',
        '%(count)d of them are assigned already. Users who move are signed out on the old node.',
        moving,
    ) % {'count': moving}


def assign_selected(actor: Actor, users: Sequence[EndUser], data: Mapping[str, Any]) -> Result:
    """Assign the selected users to a node, automatically, or to none."""
    how, node = data.get('how') or 'node', data.get('node')
    if how == 'automatic':
        if mode() == NONE:
            raise Refused(_('The User Assignment Mode is None. Choose a node, or change the mode first.'))
        redundancy.guard()
        done = assign_automatically(only=[user.pk for user in users])
        actions.announce_users(done.ids)
        spread = ', '.join(f'{name}: {count}' for name, count in done.per_node.items())
        text = ngettext('%(count)d user assigned. %(spread)s', '%(count)d users assigned. %(spread)s', len(done.ids))
        return Result(
            text % {'count': len(done.ids), 'spread': spread},
            data={'assigned': len(done.ids), 'nodes': done.per_node, 'refused': []},
        )
    if how == 'node' and node is None:
        raise ValidationError({'node': _('Choose a node.')})
    refused = actions.assign(users, node if how == 'node' else None)
    moved = len(users) - len(refused)
    text = ngettext('%(count)d user assigned.', '%(count)d users assigned.', moved) % {'count': moved}
    if how == 'none':
        text = ngettext('%(count)d user is not assigned now.', '%(count)d users are not assigned now.', moved) % {
            'count': moved
        }
    if refused:
        names = '; '.join(f'{user.user_id}: {reason}' for user, reason in refused[:10])
        text += ' ' + ngettext('%(count)d left out: %(names)s', '%(count)d left out: %(names)s', len(refused)) % {
            'count': len(refused),
            'names': names,
        }
    return Result(
        text,
        data={'assigned': moved, 'refused': [{'user_id': user.user_id, 'reason': reason} for user, reason in refused]},
    )
