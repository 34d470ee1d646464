"""IM address domains, presence settings, and the stored presence data of users."""

from __future__ import annotations

import secrets
from typing import Any

from django.core.validators import MaxValueValidator, MinValueValidator
from django.db import models
from django.utils.translation import gettext_lazy as _

from impadmin.presence.peer_models import ClusterIdentity as ClusterIdentity
from impadmin.presence.peer_models import InterclusterPeer as InterclusterPeer
from impadmin.presence.peer_models import PeerDomain as PeerDomain
from impadmin.presence.peer_models import PeerLink as PeerLink
from impadmin.presence.peer_models import PeerNode as PeerNode
from impadmin.presence.peer_models import PeerState as PeerState
from impadmin.presence.peer_models import PeerUsers as PeerUsers


class Domain(models.Model):
    """An IM address domain (guide 1135-1146). Its type follows from its use and is computed, not stored."""

    name = models.CharField(
        _('Domain Name'), max_length=255,
        help_text=_('1 to 255 characters: letters, digits, hyphens and dots. No part begins or ends with a hyphen; '
                    'the last part does not begin with a digit.'),
    )  # fmt: skip
    key = models.CharField(max_length=255, unique=True, editable=False)
    """Lower-case name: what is compared and hosted."""
    configured = models.BooleanField(_('Configured on local cluster'), default=True, editable=False)
    """True when an administrator added it, False when the audit found it in use."""
    user_count = models.IntegerField(_('Users'), default=0, editable=False)
    """Users whose IM address or Directory URI is in the domain, as of the last audit or change."""
    local = models.BooleanField(default=True, db_default=True, editable=False)
    """False: only peer clusters have it. It is listed, not hosted here."""
    created_at = models.DateTimeField(_('Created'), auto_now_add=True)

    class Meta:
        db_table = 'im_domain'
        verbose_name = _('Domain')
        verbose_name_plural = _('Domains')

    def __str__(self) -> str:
        return self.name


def _limit() -> list[MinValueValidator | MaxValueValidator]:
    return [MinValueValidator(1), MaxValueValidator(10000)]


class PresenceSettings(models.Model):
    """Presence > Settings > Standard Configuration: one row, id 1."""

    availability_sharing = models.BooleanField(
        _('Enable availability sharing'), default=True,
        help_text=_('When this is off, users see only their own availability and everyone else is grey. '
                    'Instant messages still work.'),
    )  # fmt: skip
    auto_approve = models.BooleanField(
        _('Allow users to view the availability of other users without being prompted for approval'), default=True,
        help_text=_('When this is off, each request must be approved by the person it is about.'),
    )  # fmt: skip
    max_contacts = models.IntegerField(
        _('Maximum Contact List Size (per user)'), default=200, null=True, blank=True, validators=_limit(),
        help_text=_('1 to 10,000, or No Limit. Lowering the limit never deletes contacts.'),
    )  # fmt: skip
    max_watchers = models.IntegerField(
        _('Maximum Watchers (per user)'), default=200, null=True, blank=True, validators=_limit(),
        help_text=_('1 to 10,000, or No Limit. Temporary subscriptions do not count.'),
    )  # fmt: skip
    adhoc_subscriptions = models.BooleanField(
        _('Enable ad hoc presence subscriptions'), default=True,
        help_text=_('Lets a user see, for a short time, someone who is not in the contact list.'),
    )  # fmt: skip
    adhoc_max = models.IntegerField(
        _('Maximum number of active ad hoc subscriptions'), default=0,
        validators=[MinValueValidator(0), MaxValueValidator(1_000_000)], help_text=_('0 means no limit.'),
    )  # fmt: skip
    adhoc_ttl_s = models.IntegerField(
        _('Ad hoc subscription time-to-live'), default=300,
        validators=[MinValueValidator(30), MaxValueValidator(3600)], help_text=_('30 to 3,600 seconds.'),
    )  # fmt: skip

    class Meta:
        db_table = 'presence_settings'
        verbose_name = _('Standard Configuration')


class AdvancedSettings(models.Model):
    """Presence > Settings > Advanced Configuration: one row, id 1. Changed only by its job."""

    default_domain = models.CharField(
        _('Default Domain'), max_length=255, default='DOMAIN.NOT.SET',
        help_text=_('Part of every IM address in the UserID@[Default_Domain] scheme.'),
    )  # fmt: skip
    address_scheme = models.CharField(
        _('IM Address Scheme'), max_length=20, default='userid',
        choices=[('userid', 'UserID@[Default_Domain]'), ('directory_uri', _('Directory URI'))],
        help_text=_('How the IM address of every user is formed.'),
    )  # fmt: skip

    class Meta:
        db_table = 'presence_advanced_settings'
        verbose_name = _('Advanced Configuration')


class VCard(models.Model):
    """A user's vcard-temp (XEP-0054), as the client sent it."""

    user = models.OneToOneField('ucm.EndUser', models.CASCADE, primary_key=True, related_name='vcard')
    xml = models.TextField()

    class Meta:
        db_table = 'vcard'
        verbose_name_plural = _('vCards')


class UserPresencePolicy(models.Model):
    """What a user decided in the client against the cluster's presence settings (guide 5548, 5552).

    Written by the engine (urn:imp:presence-policy:0). None: as the cluster does; without any decision there is no row.
    A writer outside the engine raises the user's roster_version in the same transaction, like one of roster_item.
    """

    user = models.OneToOneField('ucm.EndUser', models.CASCADE, primary_key=True, related_name='presence_policy')
    sharing = models.BooleanField(null=True)
    """Shares the own availability."""
    automatic = models.BooleanField(null=True)
    """Requests to see the own availability are approved without a question; False: the user is asked."""

    class Meta:
        db_table = 'user_presence_policy'
        verbose_name_plural = _('Presence policies')


class PrivacyList(models.Model):
    """A user's privacy list (XEP-0016). The block list (XEP-0191) is what the default one denies.

    Written by the engine. Every writer raises the owner's privacy_version in the same transaction.
    """

    user = models.ForeignKey('ucm.EndUser', models.CASCADE, related_name='privacy_lists', db_index=False)
    name = models.CharField(max_length=255)
    is_default = models.BooleanField(default=False)
    """In force for every session that did not choose another one, and while nobody is signed in."""

    class Meta:
        db_table = 'privacy_list'
        verbose_name_plural = _('Privacy lists')
        constraints = [
            models.UniqueConstraint(fields=['user', 'name'], name='privacy_list_name'),
            models.UniqueConstraint(fields=['user'], condition=models.Q(is_default=True), name='privacy_list_default'),
        ]


class PrivacyItem(models.Model):
    """One rule of a privacy list, see engine.contract.privacy.Item."""

    list = models.ForeignKey(PrivacyList, models.CASCADE, related_name='items', db_index=False)
    order = models.BigIntegerField()
    type = models.CharField(max_length=12, blank=True)
    value = models.CharField(max_length=3071, blank=True)
    """Prepared JID, group, or subscription."""
    allow = models.BooleanField()
    kinds = models.SmallIntegerField(default=0)
    """Kinds of stanzas as bits, 0 for everything."""

    class Meta:
        db_table = 'privacy_item'
        verbose_name_plural = _('Rules of privacy lists')
        constraints = [models.UniqueConstraint(fields=['list', 'order'], name='privacy_item_order')]


class PrivateData(models.Model):
    """An element a user's clients keep on the server (XEP-0049). Written by the engine."""

    user = models.ForeignKey('ucm.EndUser', models.CASCADE, related_name='private_data', db_index=False)
    namespace = models.CharField(max_length=1023)
    name = models.CharField(max_length=255)
    xml = models.TextField()

    class Meta:
        db_table = 'private_data'
        verbose_name_plural = _('Private data')
        constraints = [models.UniqueConstraint(fields=['user', 'namespace', 'name'], name='private_data_element')]


class LastActivity(models.Model):
    """When a user's last client signed out and its last status text (XEP-0012)."""

    user = models.OneToOneField('ucm.EndUser', models.CASCADE, primary_key=True, related_name='last_activity')
    at = models.DateTimeField()
    status = models.TextField(blank=True)

    class Meta:
        db_table = 'last_activity'
        verbose_name_plural = _('Last activity')


class AddressChange(models.Model):
    """Old and new IM address of one user while the default domain or address scheme changes.

    Rows exist from the moment the change touches data until it has ended or was taken back; while they do, nobody
    else may change a user's address.
    """

    user = models.OneToOneField('ucm.EndUser', models.CASCADE, primary_key=True, related_name='address_change')
    old = models.CharField(max_length=400, null=True, unique=True)
    new = models.CharField(max_length=400, null=True, unique=True)

    class Meta:
        db_table = 'address_change'
        verbose_name_plural = _('Changes of addresses')


class AddressJournal(models.Model):
    """A row as it was before the address change touched it, so that Cancel gives back exactly what was there."""

    kind = models.CharField(max_length=20)
    """roster or offline."""
    key = models.BigIntegerField()
    """Owner of the roster, or id of the offline message."""
    row: models.JSONField[Any] = models.JSONField()

    class Meta:
        db_table = 'address_journal'
        indexes = [models.Index(fields=['kind', 'key'])]


class PubSubNode(models.Model):
    """A publish-subscribe node: of an account (XEP-0163) when ``owner`` is set, else of the service (XEP-0060).

    Written by the engine. ``items`` and ``size`` (bytes of the payloads) are kept exact with every change of an item.
    """

    id = models.BigAutoField(primary_key=True)
    owner = models.ForeignKey('ucm.EndUser', models.CASCADE, null=True, related_name='pubsub_nodes', db_index=False)
    creator = models.CharField(max_length=2000, blank=True)
    """Bare JID of who created a node of the service; '' for a node of an account."""
    name = models.CharField(max_length=1023)
    config: models.JSONField[Any] = models.JSONField(default=dict)
    """What differs from the defaults (engine/features/pubsub/config.py)."""
    items = models.IntegerField(default=0)
    size = models.BigIntegerField(default=0)
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        db_table = 'pubsub_node'
        verbose_name_plural = _('Publish-subscribe nodes')
        constraints = [
            models.UniqueConstraint(
                fields=['owner', 'name'], name='pubsub_node_account', condition=models.Q(owner__isnull=False)
            ),
            models.UniqueConstraint(
                fields=['name'], name='pubsub_node_service', condition=models.Q(owner__isnull=True)
            ),
        ]
        indexes = [models.Index(fields=['creator'], name='pubsub_node_creator', condition=models.Q(owner__isnull=True))]


class PubSubItem(models.Model):
    """A published item. ``id`` grows with every publication, also when an item is replaced: the order of items."""

    id = models.BigAutoField(primary_key=True)
    node = models.ForeignKey(PubSubNode, models.CASCADE, related_name='published', db_index=False)
    item_id = models.CharField(max_length=1023)
    publisher = models.CharField(max_length=2000)
    """Bare JID."""
    resource = models.CharField(max_length=1023, default='', db_default='')
    """The client that published it; '' when it was not one."""
    payload = models.BinaryField()
    """The element as it was published, empty when there was none."""
    at = models.DateTimeField()

    class Meta:
        db_table = 'pubsub_item'
        verbose_name_plural = _('Publish-subscribe items')
        constraints = [models.UniqueConstraint(fields=['node', 'item_id'], name='pubsub_item_of_node')]
        indexes = [models.Index(fields=['node', 'id'], name='pubsub_item_order')]


class PubSubAffiliation(models.Model):
    """What somebody may do at a node beyond its access model: owner, publisher, member, publish-only or outcast."""

    pk = models.CompositePrimaryKey('node', 'jid')
    node = models.ForeignKey(PubSubNode, models.CASCADE, related_name='affiliations', db_index=False)
    jid = models.CharField(max_length=2000)
    """Bare JID."""
    affiliation = models.CharField(max_length=20)

    class Meta:
        db_table = 'pubsub_affiliation'
        verbose_name_plural = _('Publish-subscribe affiliations')
        indexes = [models.Index(fields=['jid'], name='pubsub_affiliation_jid')]


class PubSubSubscription(models.Model):
    """Who asked for the notifications of a node. Those who get them for their presence have no row."""

    pk = models.CompositePrimaryKey('node', 'jid')
    node = models.ForeignKey(PubSubNode, models.CASCADE, related_name='subscriptions', db_index=False)
    jid = models.CharField(max_length=2000)
    """Bare or full JID, as the subscriber asked."""
    bare = models.CharField(max_length=2000)
    subid = models.CharField(max_length=40)
    pending = models.BooleanField(default=False)
    """An owner has not approved it yet."""
    deliver = models.BooleanField(default=True)

    class Meta:
        db_table = 'pubsub_subscription'
        verbose_name_plural = _('Publish-subscribe subscriptions')
        indexes = [models.Index(fields=['bare'], name='pubsub_subscription_bare')]


class PushRegistration(models.Model):
    """Where a client of a user wants to be told of messages while it is not reachable (XEP-0357)."""

    pk = models.CompositePrimaryKey('user', 'service', 'node')
    user = models.ForeignKey('ucm.EndUser', models.CASCADE, related_name='push_registrations', db_index=False)
    service = models.CharField(max_length=1200)
    """JID of the push service."""
    node = models.CharField(max_length=1023, blank=True)
    resource = models.CharField(max_length=1023)
    """The resource that enabled it."""
    options = models.BinaryField()
    """The publish-options form to send along, empty when there is none."""
    created_at = models.DateTimeField()

    class Meta:
        db_table = 'push_registration'
        verbose_name_plural = _('Push registrations')


def new_secret() -> str:
    """A dialback secret nobody has to type."""
    return secrets.token_urlsafe(32)


class XmppFederationSettings(models.Model):
    """Presence > Inter-Domain Federation > XMPP Federation > Settings: one row, id 1."""

    enabled = models.BooleanField(
        _('XMPP Federation Node Status'), default=True,
        help_text=_('On or off for every node on which Cisco XCP XMPP Federation Connection Manager is activated.'),
    )  # fmt: skip
    security = models.CharField(
        _('Security Mode'), max_length=10, default='optional',
        choices=[('none', _('No TLS')), ('optional', _('TLS Optional')), ('required', _('TLS Required'))],
        help_text=_('TLS Optional encrypts when the other server can. TLS Required refuses servers that cannot.'),
    )  # fmt: skip
    require_certificates = models.BooleanField(
        _('Require client-side security certificates'), default=False,
        help_text=_('With TLS, a server is refused unless its certificate is for its domain and from an authority '
                    'that is trusted here: upload the certificates of these authorities to cup-xmpp-trust first.'),
    )  # fmt: skip
    external_in = models.BooleanField(
        _('Enable SASL EXTERNAL on all incoming connections'), default=True,
        help_text=_('A server whose certificate is valid may prove its domain with it.'),
    )  # fmt: skip
    external_out = models.BooleanField(
        _('Enabling SASL on outbound connections'), default=True,
        help_text=_('Use the certificate of this node to prove its domain, when the other server offers that.'),
    )  # fmt: skip
    dialback = models.BooleanField(
        _('Use server dialback'), default=True,
        help_text=_('A server that has no valid certificate proves its domain through DNS. When this is off, only '
                    'certificates count.'),
    )  # fmt: skip
    secret = models.CharField(_('Dialback secret'), max_length=200, default=new_secret, editable=False)
    secret_version = models.IntegerField(_('Dialback secret'), default=1, editable=False)
    """Grows with every new secret."""

    class Meta:
        db_table = 'xmpp_federation_settings'
        verbose_name = _('XMPP Federation Settings')


class XmppFederationPolicy(models.Model):
    """Presence > Inter-Domain Federation > XMPP Federation > Policy: one row, id 1."""

    policy = models.CharField(
        _('Policy Mode'), max_length=10, default='allow',
        choices=[('allow', _('Allow: every domain except the listed ones')),
                 ('deny', _('Deny: no domain except the listed ones'))],
        help_text=_('Whether the domains under Policy Domains are refused, or the only ones that are allowed.'),
    )  # fmt: skip

    class Meta:
        db_table = 'xmpp_federation_policy'
        verbose_name = _('XMPP Federation Policy')


class XmppFederationDomain(models.Model):
    """An exception to the policy mode."""

    domain = models.CharField(
        _('Domain Name'), max_length=255, unique=True,
        help_text=_('For example example.com, or *.example.com for every domain below it.'),
    )  # fmt: skip
    direction = models.CharField(
        _('Direction'), max_length=10, default='both',
        choices=[('both', _('Incoming and outgoing')), ('incoming', _('Incoming')), ('outgoing', _('Outgoing'))],
        help_text=_('Which stanzas the entry is about: those that arrive from the domain, those sent to it, or both.'),
    )  # fmt: skip
    comment = models.CharField(_('Comment'), max_length=255, blank=True, help_text=_('For whoever reads the list.'))

    class Meta:
        db_table = 'xmpp_federation_domain'
        verbose_name = _('Policy domain')
        verbose_name_plural = _('Policy domains')

    def __str__(self) -> str:
        return self.domain


class PresenceGateway(models.Model):
    """Presence > Gateways (guide 3214-3233): where the state of phones or calendars comes from."""

    type = models.CharField(
        _('Presence Gateway Type'), max_length=10, default='cucm',
        choices=[('cucm', 'CUCM'), ('ews', 'Exchange -- EWS Server'), ('office365', 'Office 365')],
        help_text=_('CUCM: the state of phones. Exchange and Office 365: the state of meetings.'),
    )  # fmt: skip
    description = models.CharField(_('Description'), max_length=128, help_text=_('1 to 128 characters.'))
    address = models.CharField(
        _('Presence Gateway'), max_length=255, unique=True,
        help_text=_('IP address, FQDN, or a DNS SRV name that resolves to the servers.'),
    )  # fmt: skip
    port = models.PositiveIntegerField(
        _('Exchange server port'), default=443, validators=[MinValueValidator(1), MaxValueValidator(65535)],
        help_text=_('1 to 65535. Not used with the type CUCM.'),
    )  # fmt: skip

    class Meta:
        db_table = 'presence_gateway'
        verbose_name = _('Presence Gateway')
        verbose_name_plural = _('Presence Gateways')

    def __str__(self) -> str:
        return self.address
