"""``manage.py imp_demo``: add the demonstration organisation (``make demo``)."""

from __future__ import annotations

from typing import Any

from django.core.management.base import BaseCommand

from impadmin.ucm import demo
from impadmin.ucm.models import EndUser


class Command(BaseCommand):
    """Adds two domains, 200 users and their contact lists; what is there already stays as it is."""

    help = 'Add a demonstration organisation: two domains, 200 users, contact lists. Safe to run again.'

    def handle(self, *args: Any, **options: Any) -> None:
        """Create what is missing and say how to sign in."""
        made = demo.create()
        if made['users']:
            self.stdout.write(
                f'Added {made["users"]} users and {made["contacts"]} contact list entries '
                f'in {" and ".join(demo.DOMAINS)}.'
            )
        else:
            self.stdout.write('The demonstration organisation is there already; nothing was changed.')
        example = EndUser.objects.filter(user_id__in=[p.user_id for p in demo.people()]).order_by('pk').first()
        if example is not None:
            self.stdout.write(f'Sign in with any of them, for example {example.im_address}, password {demo.PASSWORD}')
