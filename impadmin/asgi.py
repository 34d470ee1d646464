"""The ASGI application: pages and REST by Django, the live view by Channels."""

import os

from django.core.asgi import get_asgi_application

os.environ.setdefault('DJANGO_SETTINGS_MODULE', 'impadmin.settings')
_http = get_asgi_application()  # loads the apps, which the imports below need

from channels.auth import AuthMiddlewareStack  # noqa: E402
from channels.routing import ProtocolTypeRouter, URLRouter  # noqa: E402

from impadmin.console import checks  # noqa: E402
from impadmin.console.bulk import limit_body  # noqa: E402
from impadmin.console.routing import websocket_urlpatterns  # noqa: E402

checks.demand()  # a server runs no system checks by itself
application = ProtocolTypeRouter(
    {'http': limit_body(_http), 'websocket': AuthMiddlewareStack(URLRouter(websocket_urlpatterns))}
)
