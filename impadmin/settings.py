"""Django settings. Everything an operator may change is an environment variable listed in docs/operate.md."""

from __future__ import annotations

import os
import secrets
from pathlib import Path
from urllib.parse import parse_qsl, unquote, urlsplit

from django.utils.translation import gettext_lazy as _

BASE_DIR = Path(__file__).resolve().parent.parent
VAR_DIR = Path(os.environ.get('IMP_VAR', BASE_DIR / 'var')).resolve()
VAR_DIR.mkdir(mode=0o755, parents=True, exist_ok=True)


def _secret_key() -> str:
    """The key from IMP_SECRET_KEY, or one made once and kept in var/secret-key."""
    if key := os.environ.get('IMP_SECRET_KEY'):
        return key
    path = VAR_DIR / 'secret-key'
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, 'w') as file:
            file.write(secrets.token_urlsafe(64))
    except FileExistsError:
        pass
    return path.read_text()


def _database(url: str) -> dict[str, object]:
    """Django's form of a ``postgresql://`` URL; ``?host=/dir`` names a Unix socket directory."""
    parts = urlsplit(url)
    options = dict(parse_qsl(parts.query))
    return {
        'ENGINE': 'django.db.backends.postgresql',
        'NAME': unquote(parts.path.lstrip('/')),
        'USER': unquote(parts.username or ''),
        'PASSWORD': unquote(parts.password or ''),
        'HOST': options.pop('host', parts.hostname or ''),
        'PORT': str(parts.port or options.pop('port', '')),
        'OPTIONS': options,
        'TEST': {'NAME': os.environ.get('IMP_TEST_DATABASE')},
    }


DATABASE_URL = os.environ.get('DATABASE_URL', f'postgresql://postgres@/imp?host={VAR_DIR}/run')
REDIS_URL = os.environ.get('REDIS_URL', f'unix://{VAR_DIR}/run/redis.sock?db=0')

DEBUG = False
SECRET_KEY = _secret_key()
ALLOWED_HOSTS = os.environ.get('IMP_ALLOWED_HOSTS', '127.0.0.1,localhost,[::1]').split(',')
CSRF_TRUSTED_ORIGINS = [origin for origin in os.environ.get('IMP_TRUSTED_ORIGINS', '').split(',') if origin]

INSTALLED_APPS = [
    'django.contrib.contenttypes',
    'django.contrib.auth',
    'django.contrib.sessions',
    'django.contrib.messages',
    'django.contrib.staticfiles',
    'django.contrib.postgres',
    'django_htmx',
    'heroicons',
    'rest_framework',
    'django_filters',
    'drf_spectacular',
    'channels',
    'django_celery_beat',
    'impadmin.console',
    'impadmin.signin',
    'impadmin.system',
    'impadmin.presence',
    'impadmin.messaging',
    'impadmin.ucm',
    'impadmin.bulkadmin',
    'impadmin.serviceability',
    'impadmin.osadmin',
    'impadmin.webhooks',
    'impadmin.diagnostics',
]

MIDDLEWARE = [
    'django.middleware.security.SecurityMiddleware',
    'impadmin.console.security.HeadersMiddleware',
    'whitenoise.middleware.WhiteNoiseMiddleware',
    'django.contrib.sessions.middleware.SessionMiddleware',
    'django.middleware.locale.LocaleMiddleware',
    'django.middleware.common.CommonMiddleware',
    'django.middleware.csrf.CsrfViewMiddleware',
    'django.contrib.auth.middleware.AuthenticationMiddleware',
    'impadmin.signin.sessions.SessionMiddleware',
    'django.contrib.messages.middleware.MessageMiddleware',
    'django_htmx.middleware.HtmxMiddleware',
    'impadmin.console.access.AccessMiddleware',
]

ROOT_URLCONF = 'impadmin.urls'
ASGI_APPLICATION = 'impadmin.asgi.application'
TEMPLATES = [
    {
        'BACKEND': 'django.template.backends.django.DjangoTemplates',
        'DIRS': [BASE_DIR / 'templates'],
        'APP_DIRS': True,
        'OPTIONS': {
            'context_processors': [
                'django.template.context_processors.request',
                'django.contrib.auth.context_processors.auth',
                'django.contrib.messages.context_processors.messages',
                'impadmin.console.context.shell',
            ],
        },
    }
]

DATABASES = {'default': _database(DATABASE_URL)}
DEFAULT_AUTO_FIELD = 'django.db.models.BigAutoField'
AUTH_USER_MODEL = 'console.Administrator'
PASSWORD_HASHERS = [
    'django.contrib.auth.hashers.Argon2PasswordHasher',
    'django.contrib.auth.hashers.PBKDF2PasswordHasher',
]
AUTH_PASSWORD_VALIDATORS = [
    {'NAME': 'impadmin.signin.passwords.Strength'},
    {'NAME': 'impadmin.signin.passwords.NotUsedBefore'},
    {'NAME': 'django.contrib.auth.password_validation.CommonPasswordValidator'},
]
LOGIN_URL = '/login/'
LOGIN_REDIRECT_URL = '/'
SESSION_COOKIE_AGE = 12 * 3600
SESSION_COOKIE_SAMESITE = 'Lax'
SESSION_COOKIE_HTTPONLY = True
SECURE_COOKIES = os.environ.get('IMP_HTTPS', '') == '1'
SESSION_COOKIE_SECURE = SECURE_COOKIES
CSRF_COOKIE_SECURE = SECURE_COOKIES
CSRF_FAILURE_VIEW = 'impadmin.console.errors.csrf_failure'
SECURE_CONTENT_TYPE_NOSNIFF = True
SECURE_REFERRER_POLICY = 'same-origin'
X_FRAME_OPTIONS = 'DENY'

LANGUAGE_CODE = 'en'
LANGUAGES = [('en', _('English')), ('zh-hans', _('Simplified Chinese')), ('ja', _('Japanese'))]
LOCALE_PATHS = [BASE_DIR / 'impadmin' / 'locale']
FORMAT_MODULE_PATH = 'impadmin.formats'
TIME_ZONE = os.environ.get('TZ', 'UTC')
USE_I18N = True
USE_TZ = True

STATIC_URL = '/static/'
STATICFILES_DIRS = [BASE_DIR / 'static']
STATIC_ROOT = VAR_DIR / 'staticfiles'
WHITENOISE_USE_FINDERS = True
MEDIA_ROOT = VAR_DIR / 'files'
DATA_UPLOAD_MAX_MEMORY_SIZE = 4 * 1024 * 1024
FILE_UPLOAD_TEMP_DIR = None
FILE_UPLOAD_HANDLERS = [
    'impadmin.console.bulk.LimitedUploadHandler',
    'django.core.files.uploadhandler.MemoryFileUploadHandler',
    'django.core.files.uploadhandler.TemporaryFileUploadHandler',
]

CELERY_BROKER_URL = REDIS_URL.replace('unix://', 'redis+socket://').replace('?db=', '?virtual_host=')
CELERY_TASK_IGNORE_RESULT = True
CELERY_TASK_ACKS_LATE = True
CELERY_TASK_REJECT_ON_WORKER_LOST = True
CELERY_WORKER_PREFETCH_MULTIPLIER = 1
CELERY_TASK_DEFAULT_QUEUE = 'default'
CELERY_BEAT_SCHEDULER = 'django_celery_beat.schedulers:DatabaseScheduler'
CELERY_TIMEZONE = TIME_ZONE

REST_FRAMEWORK = {
    'DEFAULT_AUTHENTICATION_CLASSES': [
        'impadmin.console.tokens.TokenAuthentication',
        'rest_framework.authentication.SessionAuthentication',
    ],
    'DEFAULT_PERMISSION_CLASSES': ['impadmin.console.access.ApiPermission'],
    'DEFAULT_RENDERER_CLASSES': ['rest_framework.renderers.JSONRenderer'],
    'DEFAULT_PARSER_CLASSES': ['rest_framework.parsers.JSONParser', 'rest_framework.parsers.MultiPartParser'],
    'DEFAULT_FILTER_BACKENDS': ['django_filters.rest_framework.DjangoFilterBackend'],
    'DEFAULT_PAGINATION_CLASS': 'impadmin.console.api_filters.Pagination',
    'DEFAULT_SCHEMA_CLASS': 'drf_spectacular.openapi.AutoSchema',
    'EXCEPTION_HANDLER': 'impadmin.console.errors.api_exception',
    'PAGE_SIZE': 50,
}
SPECTACULAR_SETTINGS = {
    'TITLE': 'IM and Presence Administration',
    'DESCRIPTION': 'Every page of the console as REST resources.',
    'VERSION': '1.0',
    'OAS_VERSION': '3.1.0',
    'POSTPROCESSING_HOOKS': [
        'drf_spectacular.hooks.postprocess_schema_enums',
        'impadmin.console.api_schema.add_components',
    ],
    'SERVE_INCLUDE_SCHEMA': False,
}
LOGGING = {
    'version': 1,
    'disable_existing_loggers': False,
    'formatters': {'line': {'format': '%(asctime)s %(levelname)s %(name)s %(message)s'}},
    'handlers': {'stderr': {'class': 'logging.StreamHandler', 'formatter': 'line'}},
    'root': {'handlers': ['stderr'], 'level': 'INFO'},
}
