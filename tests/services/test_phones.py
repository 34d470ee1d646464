"""User Profile with its universal templates, told by Cisco UDS Tomcat: the line, the devices, self-provisioning."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tests.proves import proves
from tests.services.test_user_data import Uds, add, uds

__all__ = ['uds']


def text(answer: Any, path: str) -> list[str | None]:
    return [one.text for one in answer.xml.iterfind(path)]


@proves('US-09', 'US-13')
def test_lines_and_devices(
    uds: Uds, api: Callable[..., Any], make_user: Callable[..., Any], admin_client: Callable[..., Any]
) -> None:
    """A feature group template gives a user profile, its templates count at once, and clients add their devices."""
    from impadmin.ucm.models import Phone

    client = api('administrator')
    line = add(api, 'universal-line-templates', name='Munich', external_mask='+4989123XXXX')
    add(api, 'universal-device-templates', name='Desk', device_description='Desk of #UserID#')
    add(api, 'universal-device-templates', name='Jabber')
    values = {'name': 'Munich', 'self_provisioning': True}
    refused = client.post('/api/v1/user-profiles/', values, format='json').json()['errors']
    assert set(refused) == {'line_template', 'mobile_template'}
    profile = add(api, 'user-profiles', **values, line_template='Munich', mobile_template='Jabber', most_phones=2)
    alice, bob = make_user('alice', first_name='Alice', last_name='<Lee>'), make_user('bob')
    page = {'name': 'Sellers', 'home_cluster': 'on', 'im_enabled': 'on', 'user_profile': profile}
    assert admin_client('administrator').post('/ucm/ucm/feature-group-templates/add/', page).status_code == 302
    apply = {'ids': [alice.pk], 'template': 'Sellers'}
    assert client.post('/api/v1/end-users/apply-template/', apply, format='json').status_code == 200

    def put(name: str, user: str = 'alice', path: str = '') -> tuple[int, str | None]:
        answer = uds(f'user/{path or user}/device/{name}', user, method='PUT')
        return answer.status, answer.xml.findtext('error/message')

    assert put('CSFALICE') == (403, 'The user has no primary extension.')
    assert put('CSFBOB', 'bob') == (403, 'The user profile does not let users provision such devices.')
    for user, number, status in ((alice, '1145', 200), (bob, '1145', 400), (bob, '1146', 200)):
        answer = client.patch(f'/api/v1/end-users/{user.pk}/', {'extension': number}, format='json')
        assert answer.status_code == status, answer.content
    assert uds('user/alice', 'alice').xml.findtext('phoneNumber') == '+49891231145'
    place = uds('user/alice', 'alice').xml.find('extensions')
    assert place is not None
    assert str(place.get('uri')).endswith('/cucm-uds/user/alice/extensions')
    found = uds('user/alice/extensions', 'alice')
    assert (text(found, '*/directoryNumber'), text(found, '*/externalPhoneNumber')) == (['1145'], ['+49891231145'])
    assert text(found, '*/description') == ['Alice <Lee>']
    assert text(uds('user/bob/extensions', 'bob'), '*/externalPhoneNumber') == ['1146'], 'no profile, no mask'

    add(api, 'phones', name='tctalice')
    add(api, 'phones', name='CSFBOB', user='bob', description='Of his own')
    assert text(uds('user/bob/devices', 'bob'), '*/description') == ['Of his own']
    assert put('CSFALICE') == (201, None)
    assert put('CSFALICE') == (200, None), 'it is there'
    assert put('SEP001122AABBCC')[0] == 403, 'there is no template for desk phones'
    assert put('CSFBOB') == (409, 'Another user has a device with this name.')
    assert put('CSFALICE2', 'bob', 'alice')[0] == 403, 'of another user'
    assert [put(name)[0] for name in ('PHONE', 'csfalice', 'CSF%2F')] == [400, 400, 400]
    assert put('TCTALICE') == (201, None), 'it had no owner'
    assert put('BOTALICE') == (409, 'The user has as many phones as the user profile allows.')
    devices = uds('user/alice/devices', 'alice')
    assert text(devices, '*/name') == ['CSFALICE', 'TCTALICE']
    assert text(devices, '*/description') == [
        'Alice <Lee> (Cisco Unified Client Services Framework)',
        'Alice <Lee> (Cisco Dual Mode for iPhone)',
    ]
    assert text(uds('user/alice/device/TCTALICE', 'alice'), '*/type') == ['Dual Mode for iPhone']
    assert uds('user/alice/device/CSFBOB', 'alice').status == 404
    assert [uds(path, 'alice', method='PUT').status for path in ('user/alice', 'version', 'user/alice/devices')] == [
        405, 405, 405]  # fmt: skip

    change = {'desk_template': 'Desk', 'most_phones': 3, 'is_default': True}
    assert client.patch(f'/api/v1/user-profiles/{profile}/', change, format='json').status_code == 200
    assert client.patch(
        f'/api/v1/universal-line-templates/{line}/', {'line_description': '#LastName#: #Boss#'}, format='json'
    ).status_code == 400  # fmt: skip
    assert put('SEP001122AABBCC') == (201, None)
    assert text(uds('user/alice/device/SEP001122AABBCC', 'alice'), '*/description') == ['Desk of alice']
    assert text(uds('user/bob/extensions', 'bob'), '*/externalPhoneNumber') == ['+49891231146'], 'the default profile'
    form = admin_client('administrator').get(f'/ucm/ucm/end-users/{alice.pk}/').content.decode()
    assert '+49891231145' in form
    assert 'SEP001122AABBCC' in form
    assert client.delete(f'/api/v1/end-users/{alice.pk}/').status_code == 204
    assert list(Phone.objects.values_list('name', flat=True)) == ['CSFBOB'], 'they go with their user'
