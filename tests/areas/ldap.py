"""What the tests of LDAP synchronization and authentication share."""

from __future__ import annotations

from typing import Any

from tests.fixtures.directory import MANAGER, MANAGER_PASSWORD, Directory

DIRECTORIES = '/api/v1/ldap-directories/'


def dirsync(state: str = 'Running') -> None:
    """Cisco DirSync is in ``state`` on the publisher, long enough, as its node would report it."""
    from datetime import timedelta

    from django.utils import timezone

    from impadmin.system.models import Node, ServiceStatus

    Node.objects.filter(publisher=True).update(heartbeat_at=timezone.now())
    ServiceStatus.objects.update_or_create(
        node=Node.objects.get(publisher=True), service='dirsync',
        defaults={'state': state, 'since': timezone.now() - timedelta(minutes=6)},
    )  # fmt: skip


def ldap_system(client: Any, directory: Directory, **values: Any) -> None:
    """LDAP System for slapd: OpenLDAP, user ID from uid."""
    body = {'enabled': True, 'server_type': 'openldap', 'user_id_attribute': 'uid'}
    answer = client.patch('/api/v1/ldap-system/', body | values, format='json')
    assert answer.status_code == 200, answer.content
    trust(directory.ca)


def trust(pem: str) -> None:
    """The authority is in tomcat-trust."""
    import hashlib

    from impadmin.osadmin.models import Certificate
    from tests.fixtures.data import publish_configuration

    fingerprint = hashlib.sha256(pem.encode()).hexdigest()
    values = {'common_name': 'LDAP CA', 'key_type': 'EC', 'pem': pem, 'kind': 'trust', 'origin': 'uploaded'}
    Certificate.objects.get_or_create(name='tomcat-trust', fingerprint=fingerprint, defaults=values)
    publish_configuration()


def agreement(client: Any, directory: Directory, base: str, status: int = 201, **values: Any) -> Any:
    """An LDAP directory of slapd; the answer as data."""
    body = {
        'name': base.partition(',')[0], 'manager_dn': MANAGER, 'password': MANAGER_PASSWORD, 'search_base': base,
        'host_1': '127.0.0.1', 'port_1': directory.tls_port, 'next_sync_at': None,
    }  # fmt: skip
    answer = client.post(DIRECTORIES, body | values, format='json')
    assert answer.status_code == status, answer.content
    return answer.json()


def sync(client: Any, pk: int, status: int = 200, **values: Any) -> Any:
    """Perform Full Sync Now; the ended job, or the refusal."""
    from impadmin.console import jobs
    from impadmin.console.models import Job

    dirsync()
    answer = client.post(f'{DIRECTORIES}{pk}/full-sync/', values, format='json')
    assert answer.status_code == status, answer.content
    if status != 200:
        return answer.json()
    jobs.work('default')
    return Job.objects.latest('pk')


def counted(job: Any) -> dict[str, int]:
    """What a synchronization did, without what it did not do."""
    names = ('created', 'changed', 'deactivated', 'unchanged', 'skipped', 'refused')
    return {name: job.counts[name] for name in names if job.counts.get(name)}
