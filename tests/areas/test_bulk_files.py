"""Upload/Download Files through the page (spec 14)."""

from __future__ import annotations

import hashlib
import io
import zipfile

import pytest

from tests.areas import bulk
from tests.proves import proves


@pytest.fixture(autouse=True)
def running(db):
    bulk.provisioning()


@pytest.fixture
def client(admin_client):
    return admin_client('bulk_operator')


ROW = b'userA,example.com,b,example.org,,General,0\n'


def content(answer):
    return b''.join(answer.streaming_content)


@proves('BAT-04')
def test_upload_appears_in_its_job_page_only(client):
    menu = client.get(bulk.FILES).content.decode()
    for entry in ('Upload/Download Files', 'Export Contact List', 'Update', 'Job Scheduler'):
        assert entry in menu
    form = client.get(bulk.FILES + 'add/').content.decode()
    for text in ('Select the Target', 'Select Transaction Type', 'Overwrite file if it exists', 'Contact Lists'):
        assert text in form
    assert bulk.upload(client, 'moves.csv', ROW).status_code == 302
    assert bulk.upload(client, 'other.csv', ROW, transaction='export_contacts').status_code == 302
    page = client.get(bulk.UPDATE).content.decode()
    assert 'value="moves.csv"' in page
    assert 'value="other.csv"' not in page


@proves('BAT-05')
def test_find_download_overwrite_delete(client):
    from impadmin.bulkadmin import files
    from impadmin.bulkadmin.models import BulkFile

    bulk.upload(client, 'a.csv', ROW)
    refused = bulk.upload(client, 'a.csv', ROW * 2)
    assert 'There is already a file named a.csv' in refused.content.decode().replace('&quot;', '"')
    old = BulkFile.objects.get()
    assert bulk.upload(client, 'a.csv', ROW * 2, overwrite=True).status_code == 302
    new = BulkFile.objects.get()
    assert (new.size, new.sha256) == (len(ROW) * 2, hashlib.sha256(ROW * 2).hexdigest())
    assert not files.path(old.pk).exists()
    bulk.upload(client, 'b.csv', ROW)
    assert b'b.csv' in client.get(bulk.FILES).content
    one = client.post(bulk.FILES + 'do/download/', {'pk': [new.pk]}, follow=True)
    assert content(one) == ROW * 2
    assert one['Content-Disposition'] == 'attachment; filename="a.csv"'
    both = client.post(bulk.FILES + 'do/download/', {'pk': [file.pk for file in BulkFile.objects.all()]}, follow=True)
    with zipfile.ZipFile(io.BytesIO(content(both))) as archive:
        assert {name: archive.read(name) for name in archive.namelist()} == {'a.csv': ROW * 2, 'b.csv': ROW}
    gone = client.post(bulk.FILES + 'delete-selected/', {'pk': [new.pk], 'confirmed': '1', 'expected': '1'})
    assert gone.status_code == 302
    assert [file.name for file in BulkFile.objects.all()] == ['b.csv']
    assert not files.path(new.pk).exists()


@proves('BAT-05')
def test_file_of_a_waiting_job_stays(client):
    from impadmin.bulkadmin.models import BulkFile

    bulk.upload(client, 'a.csv', ROW)
    job = bulk.submit(client, 'a.csv', run='later')
    assert f'job ID {job.pk}' in bulk.upload(client, 'a.csv', ROW * 3, overwrite=True).content.decode()
    file = BulkFile.objects.get()
    client.post(f'{bulk.FILES}{file.pk}/delete/', {'confirmed': '1', 'expected': '1'})
    assert BulkFile.objects.get().size == len(ROW)
    client.post(f'{bulk.JOBS}{job.pk}/do/stop/', {'confirmed': '1'})
    client.post(f'{bulk.FILES}{file.pk}/delete/', {'confirmed': '1', 'expected': '1'})
    assert not BulkFile.objects.exists()


@pytest.mark.parametrize('name', ['.hidden', 'a:b.csv', 'x' * 151 + '.csv', 'a|b.csv', 'nul?.csv'])
def test_names_that_some_system_cannot_store_are_refused(client, name):
    from impadmin.bulkadmin.models import BulkFile

    page = bulk.upload(client, name, ROW).content.decode()
    assert 'for the file name' in page or 'at most 200' in page
    assert not BulkFile.objects.exists()


def test_paths_in_a_name_are_cut_off(client):
    from impadmin.bulkadmin.models import BulkFile

    bulk.upload(client, '../../etc/passwd.csv', ROW)
    assert BulkFile.objects.get().name == 'passwd.csv'


@proves('BAT-04')
def test_200000_lines_stream_through(client):
    from impadmin.bulkadmin.models import BulkFile

    data = b''.join(b'userA,example.com,c%d,example.org,,General,0\n' % n for n in range(200_000))
    assert bulk.upload(client, 'large.csv', data).status_code == 302
    file = BulkFile.objects.get()
    answer = client.get(f'{bulk.FILES}{file.pk}/file/content/')
    assert answer.streaming
    assert content(answer) == data


def test_more_than_the_limit_is_refused_and_not_kept(client, monkeypatch):
    from impadmin.bulkadmin.models import BulkFile
    from impadmin.console import bulk as machine

    monkeypatch.setattr(machine, 'UPLOAD_LIMIT', 100_000)
    page = bulk.upload(client, 'large.csv', ROW * 20_000).content.decode()
    assert 'larger than 1 GiB' in page
    assert not BulkFile.objects.exists()


def test_a_reader_downloads_but_does_not_upload(admin_client, client):
    from impadmin.bulkadmin.models import BulkFile

    bulk.upload(client, 'a.csv', ROW)
    reader = admin_client('read_only')
    file = BulkFile.objects.get()
    assert content(reader.get(f'{bulk.FILES}{file.pk}/file/content/')) == ROW
    assert bulk.upload(reader, 'b.csv', ROW).status_code == 403
    assert reader.post(f'{bulk.UPDATE}do/submit/', {'confirmed': '1', 'file': 'a.csv'}).status_code == 403
    assert admin_client('').get(f'{bulk.FILES}{file.pk}/file/content/').status_code == 302
