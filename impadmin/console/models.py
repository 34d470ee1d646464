"""Tables of the console machine: administrators, tokens, audit, preferences, jobs, configuration generations."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from django.contrib.auth.base_user import AbstractBaseUser, BaseUserManager
from django.contrib.postgres.indexes import OpClass
from django.core.validators import MaxValueValidator, MinValueValidator, RegexValidator
from django.db import models
from django.db.models import F
from django.db.models.functions import Upper
from django.utils.functional import cached_property
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _

from impadmin.console.access import Grants, grants


class Permissions(models.JSONField):
    """A list of permissions (``access.Grants``), chosen on a form from everything that can be granted."""

    def formfield(self, **kwargs: Any) -> Any:
        """See ``permissions.PermissionsField``."""
        from impadmin.console.permissions import PermissionsField

        return PermissionsField(label=self.verbose_name, help_text=self.help_text, required=not self.blank)

    def shown(self, obj: Any) -> str:
        """HTML of what the permissions of ``obj`` come to, where they cannot be changed."""
        from impadmin.console.permissions import shown

        return shown(grants(getattr(obj, 'allowed', None) or self.value_from_object(obj)))

    def words(self, value: Any) -> str:
        """The permissions as people read them."""
        from impadmin.console.permissions import labels

        return labels(value or ())


def _known_permissions(value: object) -> None:
    from impadmin.console.roles import check_permissions

    check_permissions(value)


class Role(models.Model):
    """What administrators may do. The built-in roles have rows too; what they may stands in ``roles.BUILT_IN``."""

    name = models.CharField(
        _('Name'), max_length=50, unique=True, help_text=_('1 to 50 characters, for example Help desk.'),
    )  # fmt: skip
    description = models.CharField(
        _('Description'), max_length=200, blank=True, help_text=_('For whom the role is meant, at most 200 characters.')
    )
    permissions = Permissions(
        _('Permissions'), default=list, blank=True, validators=[_known_permissions],
        help_text=_('What people with this role may see and do. Every other permission includes View.'),
    )  # fmt: skip

    class Meta:
        db_table = 'role'
        verbose_name = _('Role')
        verbose_name_plural = _('Roles')

    def __str__(self) -> str:
        from impadmin.console.roles import BUILT_IN

        return str(BUILT_IN[self.name][0]) if self.name in BUILT_IN else self.name

    @property
    def allowed(self) -> Sequence[str]:
        """The permissions in force."""
        from impadmin.console.roles import BUILT_IN

        return BUILT_IN[self.name][1] if self.name in BUILT_IN else self.permissions

    @property
    def grants(self) -> Grants:
        """What the role allows."""
        return grants(self.allowed)


class AdministratorManager(BaseUserManager['Administrator']):
    """Looks administrators up by user name."""


class Administrator(AbstractBaseUser):
    """A person or program that signs in to the console (the product's Application User)."""

    username = models.CharField(
        _('User ID'),
        max_length=50,
        unique=True,
        validators=[RegexValidator(r'^[A-Za-z0-9._@-]+$', _('Use letters, digits and . _ @ - only.'))],
        help_text=_('1 to 50 characters: letters, digits and . _ @ -'),
    )
    roles: models.ManyToManyField[Role, Any] = models.ManyToManyField(
        Role, verbose_name=_('Roles'), db_table='administrator_role', related_name='administrators',
        help_text=_('Together they decide which pages this user sees and what he may do there.'),
    )  # fmt: skip

    class Origin(models.TextChoices):
        """Who knows the password."""

        LOCAL = 'local', _('Local')
        LDAP = 'ldap', 'LDAP'
        SAML = 'saml', 'SAML'

    origin = models.CharField(
        _('Kept by'), max_length=10, choices=Origin.choices, default=Origin.LOCAL, editable=False,
        help_text=_('Local: the password is here. LDAP, SAML: a directory or identity provider vouches for the user.'),
    )  # fmt: skip
    is_active = models.BooleanField(_('Active'), default=True, help_text=_('A user who is not active cannot sign in.'))
    language = models.CharField(_('Language'), max_length=10, blank=True)
    theme = models.CharField(_('Theme'), max_length=10, blank=True)
    created_at = models.DateTimeField(_('Created'), auto_now_add=True)
    vouched_at = models.DateTimeField(
        _('Last vouched for'), null=True, blank=True, editable=False,
        help_text=_('When the directory or identity provider last said who the user is and in which groups.'),
    )  # fmt: skip
    asked_at = models.DateTimeField(null=True, editable=False)
    """When the directory was last asked, whatever came of it."""

    objects = AdministratorManager()
    USERNAME_FIELD = 'username'

    class Meta:
        db_table = 'administrator'
        verbose_name = _('Application User')
        verbose_name_plural = _('Application Users')

    def __str__(self) -> str:
        return self.username

    @cached_property
    def held_roles(self) -> list[Role]:
        """The roles, read once."""
        return sorted(self.roles.all(), key=lambda role: role.pk)

    @cached_property
    def grants(self) -> Grants:
        """What the roles together allow."""
        return grants(permission for role in self.held_roles for permission in role.allowed)


class ApiToken(models.Model):
    """A REST token. Only its SHA-256 is stored; the token itself is shown once."""

    name = models.CharField(_('Name'), max_length=100, help_text=_('Where the token is used, for your own records.'))
    administrator = models.ForeignKey(
        Administrator, models.CASCADE, related_name='tokens', verbose_name=_('User ID'),
        help_text=_('The user in whose name the token acts.'),
    )  # fmt: skip
    digest = models.CharField(max_length=64, unique=True, editable=False)
    scopes = Permissions(
        _('Scope'), default=list, validators=[_known_permissions],
        help_text=_('What the token may do. It never may more than its user: All pages, Everything is all he may.'),
    )  # fmt: skip
    created_at = models.DateTimeField(_('Created'), auto_now_add=True)
    expires_at = models.DateTimeField(
        _('Expires'), null=True, blank=True, help_text=_('Empty: the token does not expire.')
    )
    last_used_at = models.DateTimeField(_('Last used'), null=True, blank=True, editable=False)

    class Meta:
        db_table = 'api_token'
        verbose_name = _('API Token')
        verbose_name_plural = _('API Tokens')

    def __str__(self) -> str:
        return self.name

    @property
    def grants(self) -> Grants:
        """What the token may do, as far as its user may (see ``access.grants_of``)."""
        return grants(self.scopes)


class StoredAnswer(models.Model):
    """The answer to a REST write that had an Idempotency-Key (see ``idempotency.py``)."""

    key = models.CharField(max_length=64, unique=True)
    """SHA-256 of the administrator and the key."""
    owner = models.CharField(max_length=150)
    request = models.CharField(max_length=64)
    """SHA-256 of what was asked."""
    status = models.PositiveSmallIntegerField()
    headers: models.JSONField[Any] = models.JSONField(default=dict)
    content = models.TextField()
    """The body, encrypted: it may have a secret that is shown only once."""
    at = models.DateTimeField(auto_now_add=True, db_index=True)

    class Meta:
        db_table = 'stored_answer'
        verbose_name_plural = _('Stored answers')
        indexes = [models.Index(fields=['owner', '-at'], name='stored_answer_owner')]


class LoginFailure(models.Model):
    """Failed sign-ins per user name and address, for throttling that holds on every console process."""

    username = models.CharField(max_length=150)
    address = models.CharField(max_length=64)
    at = models.DateTimeField(auto_now_add=True)

    class Meta:
        db_table = 'login_failure'
        indexes = [models.Index(fields=['username', 'address', 'at']), models.Index(fields=['at'])]


class AuditEntry(models.Model):
    """One change: who, when, from where, what, before and after."""

    at = models.DateTimeField(_('Time'), auto_now_add=True, db_index=True)
    actor = models.CharField(_('User'), max_length=150)
    source = models.CharField(
        _('From'), max_length=64, blank=True, help_text=_('IP address, or the job or task that acted.')
    )
    channel = models.CharField(_('Through'), max_length=20, help_text=_('browser, rest, job, cli or system'))
    action = models.CharField(_('Action'), max_length=60)
    page = models.CharField(_('Page'), max_length=200, blank=True)
    object_type = models.CharField(_('Type'), max_length=100, db_index=True)
    object_id = models.CharField(_('Object ID'), max_length=100, blank=True)
    object_label = models.CharField(_('Object'), max_length=400, blank=True)
    before: models.JSONField[Any] = models.JSONField(_('Before'), null=True)
    after: models.JSONField[Any] = models.JSONField(_('After'), null=True)
    batch = models.CharField(_('Batch'), max_length=40, blank=True, db_default='', db_index=True)
    """The same for every entry of one bulk action; '' for single changes."""
    approved_by = models.CharField(_('Approved by'), max_length=150, blank=True, db_default='', editable=False)
    """The second administrator, where an action needed one (see approvals.py)."""
    shredded_at = models.DateTimeField(_('Shredded'), null=True, editable=False)
    """When personal values in it were replaced (see shredding.py)."""

    class Meta:
        db_table = 'audit_entry'
        indexes = [
            models.Index(fields=['object_type', 'object_id', '-at']),
            models.Index(fields=['page', '-at'], name='audit_page'),
            models.Index(fields=['action', '-at'], name='audit_action'),
            models.Index(OpClass(Upper('actor'), 'varchar_pattern_ops'), F('at').desc(), name='audit_actor'),
            models.Index(OpClass(Upper('object_label'), 'varchar_pattern_ops'), F('at').desc(), name='audit_label'),
        ]
        verbose_name = _('History')
        verbose_name_plural = _('History')

    def __str__(self) -> str:
        """What it calls its object: an object by its name; a page or the parameters of a service translated."""
        if self.shredded_at and self.object_label.startswith('‹'):
            return gettext('Shredded (%(id)s)') % {'id': self.object_id}
        if self.object_type == 'system.ParameterValue':
            title, dot, node = self.object_label.partition(' · ')
            return gettext(title) + dot + node if title else self.action
        if self.object_label and self.object_label == self.page.rpartition(' > ')[2]:
            return gettext(self.object_label)
        return self.object_label or self.action


class HistorySettings(models.Model):
    """Diagnostics > History Settings: one row, id 1."""

    personal_days = models.IntegerField(
        _('Keep personal data for (days)'), default=365, null=True, blank=True,
        validators=[MinValueValidator(1), MaxValueValidator(36500)],
        help_text=_('1 to 36,500 days, or No Limit. Older entries of the history stay, without names, addresses and '
                    'other values that belong to a person.'),
    )  # fmt: skip
    shredded_until = models.DateTimeField(null=True, editable=False)
    """Entries before this were looked at."""

    class Meta:
        db_table = 'history_settings'
        verbose_name = _('History Settings')


class ApprovalSettings(models.Model):
    """System > Security > Approval Settings: one row, id 1. An empty list: nobody waits for approval."""

    permissions = Permissions(
        _('Actions that wait for approval'), default=list, blank=True, validators=[_known_permissions],
        help_text=_('Done by one administrator, they wait until another one approves. Adding never waits.'),
    )  # fmt: skip
    hours = models.IntegerField(
        _('Requests expire after (hours)'), default=72, validators=[MinValueValidator(1), MaxValueValidator(720)],
        help_text=_('1 to 720 hours. A request that nobody approved in this time is not done.'),
    )  # fmt: skip

    class Meta:
        db_table = 'approval_settings'
        verbose_name = _('Approval Settings')


class RequestState(models.TextChoices):
    """States of a request for approval."""

    WAITING = 'waiting', _('Waiting')
    APPROVED = 'approved', _('Approved')
    REJECTED = 'rejected', _('Rejected')
    WITHDRAWN = 'withdrawn', _('Withdrawn')
    EXPIRED = 'expired', _('Expired')


class ApprovalRequest(models.Model):
    """An action of one administrator that waits for another one."""

    title = models.CharField(_('Request'), max_length=400)
    page = models.CharField(_('Page'), max_length=200)
    """Name of the page the action belongs to."""
    place = models.CharField(max_length=200, blank=True, db_default='', editable=False)
    """Menu path of the page it is about: who may open it sees the request; '': who may open every page."""
    action = models.CharField(_('Action'), max_length=60)
    """As in a permission: change, delete, do/COMMAND."""
    call: models.JSONField[Any] = models.JSONField(default=dict, editable=False)
    """What to do, see approvals.py."""
    preview: models.JSONField[Any] = models.JSONField(default=dict, editable=False)
    """What it would have done when it was requested (``Preview.as_json``)."""
    state = models.CharField(
        _('Status'), max_length=20, choices=RequestState.choices, default=RequestState.WAITING, db_index=True
    )
    requested_by = models.CharField(_('Requested by'), max_length=150)
    requested_at = models.DateTimeField(_('Requested'), auto_now_add=True)
    source = models.CharField(_('From'), max_length=64, blank=True)
    channel = models.CharField(_('Through'), max_length=20)
    expires_at = models.DateTimeField(_('Expires'))
    decided_by = models.CharField(_('Decided by'), max_length=150, blank=True)
    decided_at = models.DateTimeField(_('Decided'), null=True, blank=True)
    reason = models.CharField(_('Reason'), max_length=400, blank=True)

    class Meta:
        db_table = 'approval_request'
        verbose_name = _('Request for approval')
        verbose_name_plural = _('Requests for approval')

    def __str__(self) -> str:
        from impadmin.console.approvals import describe

        return describe(self)


class Preference(models.Model):
    """What one administrator chose for one list: columns, sort, page size, row height, last search."""

    administrator = models.ForeignKey(Administrator, models.CASCADE, related_name='preferences')
    key = models.CharField(max_length=200)
    value: models.JSONField[Any] = models.JSONField()

    class Meta:
        db_table = 'preference'
        verbose_name_plural = _('Preferences')
        constraints = [models.UniqueConstraint(fields=['administrator', 'key'], name='one_preference_per_key')]


class SavedSearch(models.Model):
    """A list as somebody wants to see it again: ``query`` is its query string (search, sort, page size, columns)."""

    administrator = models.ForeignKey(Administrator, models.CASCADE, related_name='searches')
    page = models.CharField(max_length=100)
    name = models.CharField(_('Name'), max_length=60)
    query = models.TextField()
    shared_with = models.CharField(_('Shared with'), max_length=60, blank=True, db_default='')
    """Name of the role whose members see it too; '' for nobody."""

    class Meta:
        db_table = 'saved_search'
        verbose_name_plural = _('Saved searches')
        constraints = [models.UniqueConstraint(fields=['administrator', 'page', 'name'], name='one_search_per_name')]
        indexes = [models.Index(fields=['page'])]

    def __str__(self) -> str:
        return self.name


class ConfigGeneration(models.Model):
    """One compiled configuration (JSON of engine.contract.config.Config)."""

    number = models.BigAutoField(primary_key=True)
    created_at = models.DateTimeField(auto_now_add=True)
    document = models.TextField()

    class Meta:
        db_table = 'config_generation'


class JobState(models.TextChoices):
    """States of a job as Job Scheduler shows them (spec 14, Jobs and Job Scheduler)."""

    HOLD = 'hold', _('Hold')
    PENDING = 'pending', _('Pending')
    PROCESSING = 'processing', _('Processing')
    COMPLETED = 'completed', _('Completed')
    INCOMPLETE = 'incomplete', _('Incomplete')
    FAILED = 'failed', _('Failed')
    CANCELLED = 'cancelled', _('Cancelled')


class Job(models.Model):
    """A background job with its progress journal. ``kind`` names a runner registered with ``jobs.runner``."""

    kind = models.CharField(_('Transaction'), max_length=60, db_index=True)
    description = models.CharField(_('Description'), max_length=256, blank=True)
    state = models.CharField(
        _('Status'), max_length=20, choices=JobState.choices, default=JobState.PENDING, db_index=True
    )
    parameters: models.JSONField[Any] = models.JSONField(_('Parameters'), default=dict)
    submitted_by = models.CharField(_('User'), max_length=150)
    submitted_at = models.DateTimeField(_('Submit Time'), auto_now_add=True)
    scheduled_at = models.DateTimeField(_('Scheduled Time'), null=True, blank=True)
    started_at = models.DateTimeField(_('Start'), null=True, blank=True)
    ended_at = models.DateTimeField(_('End'), null=True, blank=True)
    total = models.BigIntegerField(_('Records'), default=0)
    done = models.BigIntegerField(_('Records processed'), default=0)
    failed = models.BigIntegerField(_('Records failed'), default=0)
    rate = models.FloatField(default=0, db_default=0, editable=False)
    """Records per second lately, as of the last checkpoint; 0 before there is one."""
    position = models.BigIntegerField(default=0, editable=False)
    """Where to go on after a crash (bytes, rows or steps: the runner's own unit); committed with the work."""
    counts: models.JSONField[Any] = models.JSONField(_('Results'), default=dict)
    """Named counts, e.g. imported, errors, ignored, not_processed, and counts by reason."""
    message = models.TextField(_('Message'), blank=True)
    log_file = models.CharField(_('Log File Name'), max_length=255, blank=True)
    output_file = models.CharField(_('Output File Name'), max_length=255, blank=True)
    stop_requested = models.BooleanField(default=False, editable=False)
    worker = models.CharField(max_length=100, blank=True, editable=False)
    heartbeat_at = models.DateTimeField(null=True, editable=False)

    class Meta:
        db_table = 'job'
        verbose_name = _('Job')
        verbose_name_plural = _('Jobs')

    def __str__(self) -> str:
        return f'{self.pk}: {self.description}' if self.description else f'{self.pk}'


class JobInput(models.Model):
    """What a job works on when it is too much for ``Job.parameters``, e.g. the keys of 75,000 objects."""

    job = models.OneToOneField(Job, models.CASCADE, related_name='input', primary_key=True)
    data: models.JSONField[Any] = models.JSONField()

    class Meta:
        db_table = 'job_input'
        verbose_name_plural = _('Job inputs')


class JobRow(models.Model):
    """The verdict on one input row that did not simply succeed."""

    job = models.ForeignKey(Job, models.CASCADE, related_name='rows')
    line = models.BigIntegerField(_('Line'))
    subject = models.CharField(_('Record'), max_length=600)
    verdict = models.CharField(_('Result'), max_length=20)
    reason = models.CharField(_('Reason'), max_length=400)

    class Meta:
        db_table = 'job_row'
        verbose_name_plural = _('Job rows')
        indexes = [models.Index(fields=['job', 'line'])]


class TaskFlowRun(models.Model):
    """One run of a task flow (flows.py): when it began, and the steps ticked by hand or recorded since."""

    flow = models.CharField(max_length=100)
    started_by = models.CharField(_('User'), max_length=150)
    started_at = models.DateTimeField(_('Start'), auto_now_add=True)
    ended_at = models.DateTimeField(_('End'), null=True)
    ticks: models.JSONField[Any] = models.JSONField(default=dict)
    """Step -> ``{"by": user, "at": ISO time, "facts": what was recorded}``."""

    class Meta:
        db_table = 'task_flow_run'
        verbose_name_plural = _('Runs of task flows')
        constraints = [
            models.UniqueConstraint(fields=['flow'], condition=models.Q(ended_at=None), name='one_open_run_per_flow')
        ]
