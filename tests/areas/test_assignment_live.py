"""User Assignment Mode with the real Sync Agent's node and worker: who gets which node, and who can sign in."""

from __future__ import annotations

import time

import pytest

from tests.fixtures.data import PASSWORD
from tests.fixtures.processes import wait_until
from tests.proves import proves
from tests.xmppclient import SignInFailed


def counts():
    from django.db.models import Count

    from impadmin.system.models import Node

    return dict(Node.objects.annotate(n=Count('users')).values_list('name', 'n'))


def run_sync_agent():
    """What beat does every minute."""
    from impadmin.console.models import AuditEntry
    from impadmin.ucm.tasks import assign_users

    before = AuditEntry.objects.filter(action='assign').count()
    assign_users.delay()
    return lambda: AuditEntry.objects.filter(action='assign').count() > before


@proves('US-01', 'US-02', 'US-03', 'US-04', 'HA-67', 'HA-68', 'HA-69', 'HA-05')
def test_assignment_modes(engine, worker, api, admin_client, xmpp):
    client = api('administrator')
    assert client.post('/api/v1/cluster-topology/', {'name': 'imp2', 'address': '127.0.0.1'}).status_code == 201

    def add(*names):
        for name in names:
            answer = client.post('/api/v1/end-users/', {'user_id': name, 'last_name': name, 'password': PASSWORD})
            assert answer.status_code == 201, answer.content

    def mode(value):
        answer = client.patch('/api/v1/enterprise-parameters/', {'user_assignment_mode': value})
        assert answer.status_code == 200, answer.content

    add(*(f'b{n}' for n in range(7)))
    wait_until(run_sync_agent(), 'the assignment')
    assert counts() == {'imp1': 4, 'imp2': 3}
    xmpp('b0').roster()

    groups = client.get('/api/v1/presence-redundancy-groups/').json()['results']
    assert [(one['name'], one['server1'], one['server2']) for one in groups] == [
        ('DefaultCUPSubcluster', 'imp1', None), ('imp2', 'imp2', None),
    ]  # fmt: skip
    joined = client.patch(f'/api/v1/presence-redundancy-groups/{groups[0]["id"]}/', {'server2': 'imp2'})
    assert joined.status_code == 200, joined.content
    mode('active_standby')
    add(*(f's{n}' for n in range(5)))
    wait_until(run_sync_agent(), 'the assignment')
    assert counts() == {'imp1': 9, 'imp2': 3}  # nobody moved

    mode('none')
    add('n0')
    run_sync_agent()
    time.sleep(2)  # nothing is to happen
    with pytest.raises(SignInFailed):
        xmpp('n0')
    assert counts() == {'imp1': 9, 'imp2': 3}
    found = client.get('/api/v1/presence-topology/').json()
    assert found['unassigned_users'] == 1
    from impadmin.ucm.models import EndUser

    user = EndUser.objects.get(user_id='n0')
    admin_client('operator').post(
        '/ucm/ucm/assign-presence-users/do/assign/', {'pk': [user.pk], 'confirmed': '1', 'how': 'node', 'node': 'imp1'}
    )
    xmpp('n0').roster()


@proves('DOM-03')
def test_nightly_audit_lists_the_domains_of_all_users(engine, worker, rest, admin_client):
    """Users whose Directory URIs reached the table past the console: the Sync Agent's audit finds their domains."""
    from impadmin.presence.tasks import domain_audit
    from impadmin.ucm.models import EndUser

    EndUser.objects.bulk_create(
        EndUser(user_id=f'u{n}', last_name='U', directory_uri=f'u{n}@{("sales", "Sales", "lab")[n % 3]}.example.net')
        for n in range(6)
    )
    call = rest('read_only')

    def managed():
        rows = call('GET', '/api/v1/domains/?limit=100').json()['results']
        return {row['name']: row['user_count'] for row in rows if not row['configured']}

    assert 'sales.example.net' not in managed()
    domain_audit.delay()  # what beat sends every minute; it is due, because none has run
    wait_until(lambda: managed().get('sales.example.net') == 4, 'the audit')
    assert managed()['lab.example.net'] == 2
    page = admin_client('read_only').get('/admin/presence/domains/').content.decode()
    assert 'sales.example.net' in page
    assert 'System Managed' in page
