"""Settings of the test run: its own folder, database and Redis, decided before impadmin.settings reads the environment.

Without DATABASE_URL and REDIS_URL the fixture ``servers`` starts both in that folder; every worker of pytest-xdist has
its own. Processes that the tests start use impadmin.settings with the environment of
``tests.fixtures.servers.environment``.
"""

import os
import tempfile
from pathlib import Path

FOLDER = Path(tempfile.mkdtemp(prefix='imp-test-'))
FOLDER.chmod(0o755)
os.environ['IMP_VAR'] = str(FOLDER / 'var')
for name in os.environ.get('IMP_TEST_STARTS', '').split():  # another process of this run began us: these are its own
    os.environ.pop(name, None)
os.environ['IMP_TEST_STARTS'] = ' '.join(name for name in ('DATABASE_URL', 'REDIS_URL') if name not in os.environ)
OWN_POSTGRES = 'DATABASE_URL' not in os.environ
OWN_REDIS = 'REDIS_URL' not in os.environ
os.environ.setdefault('DATABASE_URL', f'postgresql://postgres@/imp?host={FOLDER}/run')
os.environ.setdefault('REDIS_URL', f'unix://{FOLDER}/run/redis.sock?db=0')
os.environ['IMP_CHANNEL_PREFIX'] = f'imp-test-{os.getpid()}'
os.environ.pop('IMP_ADMIN_PASSWORD', None)

from impadmin.translations import compile_translations  # noqa: E402

compile_translations(Path(__file__).resolve().parent.parent / 'impadmin' / 'locale')

from impadmin.settings import *  # noqa: E402, F403

STATIC_ROOT.mkdir(exist_ok=True)  # noqa: F405  (whitenoise warns about a missing folder)
