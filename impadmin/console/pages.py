"""Diagnostics > History: every change of every page, and every sign-in."""

from __future__ import annotations

from django.db.models import Q
from django.utils.translation import gettext_lazy

from impadmin.console import historyview, revert, shredding
from impadmin.console.access import Right
from impadmin.console.models import AuditEntry, HistorySettings
from impadmin.console.page import Column, Command, Fieldset, Help, Page, SettingsPage
from impadmin.console.registry import register

SIGN_INS = Q(action__startswith='sign-') | Q(object_type='signin.SignIn')
HISTORY = Page(
    name='history',
    console='admin',
    area='diagnostics',
    menu='Diagnostics > History',
    title=gettext_lazy('History'),
    right=Right.MONITOR,
    intro=gettext_lazy('Who changed what, when and from where, with the values before and after.'),
    help=Help(
        when=gettext_lazy('To find out what changed before something went wrong, and to take a change back.'),
        effect=gettext_lazy(
            'Reading changes nothing. Revert saves the values before as a new change, with the same checks.'
        ),
    ),
    order=900,
    model=AuditEntry,
    columns=(
        Column(
            'label',
            gettext_lazy('Object'),
            value=str,
            order_by='object_label',
        ),
        Column('action', gettext_lazy('Action'), value=historyview.action_text, order_by='action'),
        Column('page', gettext_lazy('Page'), value=historyview.place, order_by='page'),
        Column('actor', gettext_lazy('User'), value=historyview.actor_text, order_by='actor'),
        Column('channel', gettext_lazy('Through'), value=historyview.channel_text, order_by='channel'),
        Column('source', gettext_lazy('From'), value=historyview.source_text, order_by='source'),
        Column('at', gettext_lazy('Time'), order_by='at', kind='time'),
    ),
    find=('at', 'actor', 'object_label', 'page', 'action', 'source', 'channel', 'approved_by'),
    read_only=('before', 'after', 'approved_by', 'shredded_at'),
    related=('history-settings',),
    tabs=(
        ('changes', gettext_lazy('Changes'), ~SIGN_INS),
        ('sign-ins', gettext_lazy('Sign-ins'), SIGN_INS),
    ),
    ordering=('-at',),
    verbs=(),
    detail='console/audit_detail.html',
    commands=(
        Command(
            'revert', gettext_lazy('Revert'), revert.run, confirm=revert.question, when=revert.impossible, danger=True
        ),
    ),
)
HISTORY_SETTINGS = SettingsPage(
    name='history-settings',
    console='admin',
    area='diagnostics',
    menu='Diagnostics > History Settings',
    title=gettext_lazy('History Settings'),
    right=Right.ADMINISTRATORS,
    intro=gettext_lazy('How long the history keeps what belongs to a person. The entries themselves stay.'),
    help=Help(
        when=gettext_lazy('When a law or a works council says how long personal data may be kept.'),
        effect=gettext_lazy(
            'Older entries keep who, what and when, but lose the names and values that belong to a person. '
            'This cannot be undone.'
        ),
    ),
    related=('history',),
    order=905,
    model=HistorySettings,
    fieldsets=(Fieldset(gettext_lazy('Personal data'), ('personal_days',)),),
    configures=False,
    commands=(
        Command(
            'shred',
            gettext_lazy('Shred data of a person'),
            shredding.shred_person,
            scope='page',
            form=shredding.PersonForm,
            confirm=shredding.consequence,
            danger=True,
        ),
    ),
    bad={'personal_days': (0, 36501)},
)
register(HISTORY, HISTORY_SETTINGS)
