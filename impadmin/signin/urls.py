"""URLs of signing in."""

from __future__ import annotations

from django.urls import path

from impadmin.console.access import public, signed_in, signing_in
from impadmin.signin import views

urlpatterns = [
    path('login/', public(views.login_view), name='login'),
    path('login/code/', public(views.code_view), name='login-code'),
    path('login/steps/', signing_in(views.step_view), name='login-steps'),
    path('logout/', signing_in(views.logout_view), name='logout'),
    path('account/', signed_in(views.account_view), name='account'),
]
