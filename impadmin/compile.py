"""Models -> ``engine.contract.config.Config``: one generation. Deterministic: same rows, same document."""

from __future__ import annotations

from typing import Any

from django.db import models

from engine.contract import chat
from engine.contract import config as contract
from engine.contract.services import BY_KEY, ENTERPRISE_PARAMS, SERVICES, parameter
from impadmin.console import generations, notifications
from impadmin.messaging.models import (
    ChatRoomSettings,
    ExternalComponent,
    GroupChatAdministrator,
    GroupChatAlias,
    GroupChatSettings,
    MessagingSettings,
)
from impadmin.osadmin import inforce
from impadmin.osadmin.models import CertificateMonitor, SecuritySettings
from impadmin.presence.models import (
    AdvancedSettings,
    Domain,
    PresenceSettings,
    XmppFederationDomain,
    XmppFederationPolicy,
    XmppFederationSettings,
)
from impadmin.system.models import IncomingAcl, Node, ParameterValue, RedundancyGroup, ServiceActivation
from impadmin.ucm import ldap_access
from impadmin.ucm.ldap_models import UserAuthentication
from impadmin.ucm.ldap_rules import parameters

FEATURES = {service.key for service in SERVICES if service.kind == 'feature'}


@generations.register_compiler
def compile_config() -> contract.Config:
    """The whole configuration as it stands in the database, in a few short queries. ``generation`` is left 0."""
    advanced = _row(AdvancedSettings)
    cluster, per_node, enterprise = _parameters()
    activated: dict[int, list[str]] = {}
    for node_id, key in ServiceActivation.objects.values_list('node_id', 'service'):
        if key in FEATURES:
            activated.setdefault(node_id, []).append(key)
    certificates = inforce.of_nodes()
    hosted = set(Domain.objects.filter(local=True).values_list('key', flat=True)) | {advanced.default_domain.lower()}
    return contract.Config(
        cluster_name=enterprise.get('cluster_id', contract.Config().cluster_name),
        default_domain=advanced.default_domain,
        address_scheme=advanced.address_scheme,
        domains=tuple(sorted(hosted)),
        presence=_settings(contract.PresenceSettings, _row(PresenceSettings)),
        messaging=_settings(contract.MessagingSettings, _row(MessagingSettings)),
        chat=_chat(),
        federation=_federation(),
        components=tuple(
            contract.Component(domain=row.domain, secret=row.secret, name=row.name)
            for row in ExternalComponent.objects.order_by('domain')
        ),
        incoming_acl=tuple(IncomingAcl.objects.order_by('address_pattern').values_list('address_pattern', flat=True)),
        security=_settings(contract.SecuritySettings, _row(SecuritySettings)),
        certificate_monitor=_settings(contract.CertificateMonitor, _row(CertificateMonitor)),
        trust=inforce.trust(),
        ldap=_ldap(),
        nodes=tuple(
            contract.Node(
                id=node.pk,
                name=node.name,
                address=node.address,
                publisher=node.publisher,
                activated=tuple(sorted(activated.get(node.pk, ()))),
                parameters=per_node.get(node.pk, {}),
                certificates=certificates[node.pk].certificates,
                regenerated=certificates[node.pk].regenerated,
            )
            for node in Node.objects.only('name', 'address', 'publisher').order_by('pk')
        ),
        groups=tuple(
            contract.RedundancyGroup(
                id=group.pk,
                name=group.name,
                nodes=tuple(pk for pk in (group.server1_id, group.server2_id) if pk is not None),
                ha=group.ha_enabled and group.server2_id is not None,
            )
            for group in RedundancyGroup.objects.order_by('pk')
        ),
        parameters=cluster,
        enterprise=enterprise,
    )


def _row(model: type[models.Model]) -> Any:
    """The one row of a settings model, or one with the defaults."""
    return model._default_manager.filter(pk=1).first() or model(pk=1)


def _settings(struct: type[Any], row: Any) -> Any:
    """A settings struct filled from the model fields of the same names."""
    return struct(**{name: getattr(row, name) for name in struct.__struct_fields__})


def _federation() -> contract.FederationSettings:
    row = _row(XmppFederationSettings)
    names = ('enabled', 'security', 'require_certificates', 'external_in', 'external_out', 'dialback')
    return contract.FederationSettings(
        **{name: getattr(row, name) for name in names},
        secret=row.secret if not row._state.adding else '',
        secret_version=row.secret_version,
        policy=_row(XmppFederationPolicy).policy,
        domains=tuple(
            contract.FederatedDomain(domain=entry.domain, direction=entry.direction)
            for entry in XmppFederationDomain.objects.order_by('domain')
        ),
    )


def _chat() -> chat.Chat:
    return chat.Chat(
        settings=_settings(chat.RoomSettings, _row(ChatRoomSettings)),
        aliases=tuple(
            chat.ChatAlias(alias=row.alias, node_id=row.node_id, primary=row.primary)
            for row in GroupChatAlias.objects.order_by('alias')
        ),
        administrators_enabled=_row(GroupChatSettings).administrators_enabled,
        administrators=tuple(
            chat.ChatAdministrator(jid=row.address, nickname=row.nickname)
            for row in GroupChatAdministrator.objects.order_by('address')
        ),
    )


def _ldap() -> contract.LdapAuthentication:
    row = _row(UserAuthentication)
    if not row.enabled:
        return contract.LdapAuthentication()
    return contract.LdapAuthentication(
        enabled=True,
        servers=ldap_access.servers(row),
        manager_dn=row.manager_dn,
        password=row.sealed_password,
        search_base=row.search_base,
        user_id_attribute=ldap_access.system().user_id_attribute,
        timeout_s=parameters()['ldap_timeout_s'],
        authorities=ldap_access.authorities(),
    )


Values = dict[str, dict[str, Any]]


def _parameters() -> tuple[Values, dict[int, Values], dict[str, Any]]:
    """(cluster-wide, per node id, enterprise) values that differ from their defaults; of parameters that exist."""
    cluster: Values = {}
    per_node: dict[int, Values] = {}
    enterprise: dict[str, Any] = {}
    known = {param.name for param in ENTERPRISE_PARAMS}
    for row in ParameterValue.objects.order_by('service', 'name', 'node_id'):
        if row.service:
            if row.service in BY_KEY and row.name in {p.name for p in BY_KEY[row.service].params}:
                place = cluster if row.node_id is None else per_node.setdefault(row.node_id, {})
                place.setdefault(row.service, {})[row.name] = row.value
        elif row.name in known:
            enterprise[row.name] = row.value
    return cluster, per_node, enterprise


_MODELS = {
    'presence': PresenceSettings,
    'messaging': MessagingSettings,
    'chat': GroupChatSettings,
    'chat.settings': ChatRoomSettings,
    'federation': XmppFederationSettings,
    'security': SecuritySettings,
}
_ADVANCED = {'default_domain', 'address_scheme'}


@notifications.register_labels
def label_of(path: str) -> tuple[str, notifications.Shown]:
    """(label, how values are shown) of a configuration path as ``engine.contract.restarts`` names it."""
    head, _, rest = path.partition('.')
    if head == 'node':
        return rest.partition('.')[2], inforce.text
    if head == 'trust':
        return rest, inforce.trust_text
    if head == 'parameters':
        service, _, name = rest.partition('.')
        return parameter(service, name).label, None
    if head == 'enterprise':
        return next((param.label for param in ENTERPRISE_PARAMS if param.name == rest), rest), None
    if head == 'domains':
        return str(Domain._meta.verbose_name_plural), None
    if head == 'incoming_acl':
        return str(IncomingAcl._meta.verbose_name), None
    if path == 'chat.aliases':
        return str(GroupChatAlias._meta.verbose_name_plural), None
    if path == 'federation.domains':
        return str(XmppFederationDomain._meta.verbose_name_plural), None
    group, _, name = path.rpartition('.')
    model: Any = AdvancedSettings if head in _ADVANCED else _MODELS[group]
    if path == 'federation.policy':
        model = XmppFederationPolicy
    found = model._meta.get_field(name)
    assert isinstance(found, models.Field)
    return str(found.verbose_name), found
