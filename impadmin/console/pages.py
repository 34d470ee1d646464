"""Diagnostics > History: every change of every page, and every sign-in."""

from __future__ import annotations

from operator import attrgetter

from django.db.models import Q
from django.utils.translation import gettext_lazy

from impadmin.console import approvals, historyview, revert, shredding, visibility
from impadmin.console.access import Right
from impadmin.console.models import ApprovalRequest, ApprovalSettings, AuditEntry, HistorySettings
from impadmin.console.page import Column, Command, Fieldset, Help, Page, SettingsPage
from impadmin.console.registry import register
from impadmin.signin import sessions

SIGN_INS = Q(page=sessions.MENU)
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
    seen_by=visibility.of_pages,
    about=attrgetter('page'),
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
APPROVALS = Page(
    name='pending-approvals',
    console='admin',
    area='system',
    menu='System > Security > Pending Approvals',
    title=gettext_lazy('Pending Approvals'),
    right=Right.MONITOR,
    intro=gettext_lazy('What one administrator asked for and another one must approve before it is done.'),
    help=Help(
        when=gettext_lazy('When a notification says that somebody waits for approval, or to follow your own request.'),
        effect=gettext_lazy(
            'Approve does the action at once, in the name of who asked; the history names both. What it would do now '
            'is shown before, and marked when it differs from what was requested.'
        ),
    ),
    related=('approval-settings', 'history'),
    model=ApprovalRequest,
    seen_by=visibility.requests,
    about=attrgetter('place'),
    columns=(
        Column('request', gettext_lazy('Request'), value=str),
        'requested_by',
        Column('requested_at', gettext_lazy('Requested'), order_by='requested_at', kind='time'),
        Column('expires_at', gettext_lazy('Expires'), order_by='expires_at', kind='time'),
        Column('state', gettext_lazy('Status'), value=approvals.state, order_by='state', kind='state'),
        'decided_by',
        'reason',
    ),
    find=('title', 'requested_by', 'state', 'decided_by', 'requested_at'),
    tabs=(
        ('waiting', gettext_lazy('Waiting'), Q(state='waiting')),
        ('closed', gettext_lazy('Closed'), ~Q(state='waiting')),
    ),
    ordering=('-requested_at',),
    verbs=(),
    detail='console/approval.html',
    commands=(
        Command(
            'approve', gettext_lazy('Approve'), approvals.approve, form=approvals.ApproveForm,
            confirm=approvals.question, when=approvals.cannot_decide,
        ),
        Command(
            'reject', gettext_lazy('Reject'), approvals.reject, form=approvals.RejectForm, when=approvals.cannot_decide,
            danger=True,
        ),
        Command('withdraw', gettext_lazy('Withdraw'), approvals.withdraw, when=approvals.cannot_decide),
    ),
)  # fmt: skip
APPROVAL_SETTINGS = SettingsPage(
    name='approval-settings',
    console='admin',
    area='system',
    menu='System > Security > Approval Settings',
    title=gettext_lazy('Approval Settings'),
    right=Right.ADMINISTRATORS,
    intro=gettext_lazy('Which actions of one administrator wait until another one approves them.'),
    help=Help(
        when=gettext_lazy('When no single person should be able to delete, revert or change what matters most.'),
        effect=gettext_lazy(
            'Saved at once. While the list is not empty, a change of this page waits for approval too.'
        ),
    ),
    related=('pending-approvals', 'history'),
    model=ApprovalSettings,
    fieldsets=(Fieldset(gettext_lazy('Four eyes'), ('permissions', 'hours')),),
    rules=(approvals.only_what_can_wait,),
    configures=False,
    bad={'hours': (0, 721)},
)
register(HISTORY, HISTORY_SETTINGS, APPROVALS, APPROVAL_SETTINGS)
