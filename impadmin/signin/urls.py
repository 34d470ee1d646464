"""URLs of signing in."""

from __future__ import annotations

from django.urls import path

from impadmin.console.access import public, signed_in, signing_in
from impadmin.signin import samlviews, views

urlpatterns = [
    path('login/', public(views.login_view), name='login'),
    path('login/code/', public(views.code_view), name='login-code'),
    path('login/steps/', signing_in(views.step_view), name='login-steps'),
    path('logout/', signing_in(views.logout_view), name='logout'),
    path('saml/login/', public(samlviews.begin_view), name='saml-login'),
    path('saml/acs/', public(samlviews.acs_view), name='saml-acs'),
    path('saml/finish/', public(samlviews.finish_view), name='saml-finish'),
    path('saml/slo/', public(samlviews.logout_view), name='saml-slo'),
    path('saml/metadata/', public(samlviews.metadata_view), name='saml-metadata'),
    path('account/', signed_in(views.account_view), name='account'),
]
