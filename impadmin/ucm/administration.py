"""User Management: Application User, Role, API Tokens."""

from __future__ import annotations

from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from impadmin.console import administrators, roles, tokens
from impadmin.console.access import Right
from impadmin.console.models import Administrator, ApiToken, Role
from impadmin.console.page import Column, Fieldset, Help, Page
from impadmin.signin import commands, lockout
from impadmin.ucm.forms import password_again_field, password_field, present_password_field


def _roles_of(administrator: Administrator) -> str:
    return _(', ').join(str(role) for role in administrator.held_roles)


def any_administrator() -> int | None:
    """Key of some application user, for generated tests."""
    return Administrator.objects.order_by('pk').values_list('pk', flat=True).first()


def role(name: str) -> int | None:
    """Key of a role, for generated tests."""
    return Role.objects.filter(name=name).values_list('pk', flat=True).first()


def _counted(one: Role) -> int:
    return int(one.administrators.count())


APPLICATION_USERS = Page(
    name='application-users',
    console='ucm',
    area='ucm',
    menu='User Management > Application User',
    title=gettext_lazy('Application Users'),
    right=Right.ADMINISTRATORS,
    intro=gettext_lazy('People and programs that sign in to these consoles.'),
    help=Help(
        when=gettext_lazy('When somebody should administer the system, with all rights or with some.'),
        effect=gettext_lazy(
            'Who loses a role is refused from the next click on. The last administrator cannot be removed.'
        ),
        guide='2582-2584, 5133',
    ),
    related=('roles', 'api-tokens', 'credential-policy'),
    model=Administrator,
    queryset=lambda: lockout.with_locked(Administrator.objects.prefetch_related('roles')),
    columns=(
        'username',
        Column('roles', gettext_lazy('Roles'), value=_roles_of),
        Column('state', gettext_lazy('Status'), value=commands.state, kind='state'),
        'origin',
        'last_login',
        'created_at',
    ),
    find=('username',),
    fieldsets=(
        Fieldset(
            gettext_lazy('Application User Information'),
            ('username', 'password', 'password_again', 'present_password', 'roles', 'is_active'),
        ),
    ),
    read_only=('origin', 'last_login', 'vouched_at', 'created_at'),
    commands=commands.COMMANDS,
    extra={
        'password': password_field,
        'password_again': password_again_field,
        'present_password': present_password_field,
    },
    rules=(administrators.username_is_free,),
    create=administrators.create_administrator,
    update=administrators.update_administrator,
    delete=administrators.delete_administrator,
    undeletable=administrators.is_needed,
    copy_clear=('username',),
    ordering=('username',),
    sample=lambda n: {
        'username': f'operator{n}',
        'roles': [role('operator')],
        'is_active': True,
        'password': f'correct-horse-battery-{n}',
        'password_again': f'correct-horse-battery-{n}',
    },
    bad={'username': ('', 'a b', 'x' * 51), 'roles': (['king'],), 'password': ('short', '1234567890')},
)
API_TOKENS = Page(
    name='api-tokens',
    console='ucm',
    area='ucm',
    menu='User Management > API Tokens',
    title=gettext_lazy('API Tokens'),
    right=Right.ADMINISTRATORS,
    intro=gettext_lazy('Programs use a token to sign in to REST. The token itself is shown once, when it is added.'),
    help=Help(
        when=gettext_lazy('When a program should use REST without the password of a person.'),
        effect=gettext_lazy(
            'A token allows what its scope names and never more than its owner may do. It ends when it expires '
            'or is deleted.'
        ),
    ),
    related=('application-users',),
    model=ApiToken,
    columns=(
        'name',
        'administrator',
        Column('allowed', gettext_lazy('Permissions'), value=tokens.scope_text),
        'created_at',
        'expires_at',
        'last_used_at',
    ),
    find=('name',),
    fieldsets=(
        Fieldset(gettext_lazy('Token'), ('name', 'administrator', 'expires_at')),
        Fieldset(gettext_lazy('Scope'), ('scopes',)),
    ),
    read_only=('last_used_at', 'created_at'),
    verbs=('add', 'edit', 'delete'),
    rules=(tokens.is_within_its_user, tokens.expires_later),
    create=tokens.create,
    update=tokens.update,
    delete=tokens.delete,
    key=('administrator', 'name'),
    imports=('edit',),
    ordering=('name', 'pk'),
    sample=lambda n: {
        'name': f'Inventory script {n}',
        'administrator': any_administrator(),
        'scopes': ['*:view'],
    },
    bad={'name': ('', 'x' * 101), 'scopes': ([], ['king:view'])},
)
ROLES = Page(
    name='roles',
    console='ucm',
    area='ucm',
    menu='User Management > User Settings > Role',
    title=gettext_lazy('Roles'),
    order=140,
    right=Right.ADMINISTRATORS,
    intro=gettext_lazy('What the people who sign in here may see and do. Copy a built-in role to change it.'),
    help=Help(
        when=gettext_lazy('When the roles that come with the system give somebody too much or too little.'),
        effect=gettext_lazy(
            'A change counts from the next click of everybody who holds the role. Nobody can give away more '
            'than he may do himself.'
        ),
    ),
    related=('application-users', 'api-tokens'),
    model=Role,
    columns=(
        Column('name', gettext_lazy('Name'), value=str, order_by='name'),
        'description',
        Column('users', gettext_lazy('Application Users'), value=_counted, kind='number'),
    ),
    find=('name', 'description'),
    fieldsets=(
        Fieldset(gettext_lazy('Role Information'), ('name', 'description')),
        Fieldset(gettext_lazy('Permissions'), ('permissions',)),
    ),
    rules=(roles.name_is_free,),
    create=roles.create,
    update=roles.update,
    delete=roles.delete,
    locked=roles.locked,
    undeletable=roles.locked,
    copy_clear=('name',),
    ordering=('name',),
    sample=lambda n: {
        'name': f'Help desk {n}',
        'description': 'Answers the telephone',
        'permissions': ['end-users:view', f'area.{("presence", "messaging", "system")[n % 3]}:view'],
    },
    bad={'name': ('', 'x' * 51, 'Operator'), 'permissions': (['king:view'], ['domains:rule'])},
)
PAGES = (APPLICATION_USERS, ROLES, API_TOKENS)
