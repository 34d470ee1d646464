"""Forms of Bulk Administration: what a job needs to know before it is submitted."""

from __future__ import annotations

from typing import Any, ClassVar

from django import forms
from django.core.exceptions import ValidationError
from django.utils.translation import gettext, gettext_lazy

from impadmin.bulkadmin import files
from impadmin.bulkadmin.contact_export import FIND_FIELDS
from impadmin.bulkadmin.models import TRANSACTIONS, BulkFile
from impadmin.system.models import Node

RUN = (('now', gettext_lazy('Run Immediately')), ('later', gettext_lazy('Run Later')))
CATEGORIES = (
    ('all', gettext_lazy('All users in the cluster')),
    ('node', gettext_lazy('Users assigned to a node')),
    ('unassigned', gettext_lazy('All unassigned users in the cluster')),
)
MATCH = (('all', gettext_lazy('all of these are true')), ('any', gettext_lazy('any of these is true')))
OPERATORS = (
    ('begins', gettext_lazy('begins with')),
    ('contains', gettext_lazy('contains')),
    ('ends', gettext_lazy('ends with')),
    ('exactly', gettext_lazy('is exactly')),
    ('empty', gettext_lazy('is empty')),
)
CELLS = (
    ('protect', gettext_lazy('Protect cells that a spreadsheet would run as a formula')),
    ('original', gettext_lazy('Write every cell as it is, for the original system')),
)


class JobForm(forms.Form):
    """Description and time of a job."""

    description = forms.CharField(
        label=gettext_lazy('Job Description'), max_length=256, required=False,
        help_text=gettext_lazy('At most 256 characters. Empty: the name of the transaction.'),
    )  # fmt: skip
    run = forms.ChoiceField(
        label=gettext_lazy('Job Information'), choices=RUN, required=False, initial='now', widget=forms.RadioSelect,
        help_text=gettext_lazy('A job that runs later starts when you have set its time in Job Scheduler.'),
    )  # fmt: skip

    def clean_run(self) -> str:
        """Run Immediately unless chosen otherwise."""
        return self.cleaned_data['run'] or 'now'


class FileForm(JobForm):
    """A job that reads a file uploaded for it. ``kind``: transaction type of its files."""

    kind: ClassVar[str]
    field_order = ('file', 'description', 'run')
    file = forms.ModelChoiceField(
        BulkFile.objects.none(), to_field_name='name', label=gettext_lazy('File Name'),
        error_messages={'invalid_choice': gettext_lazy('There is no file of this name that this job can use.')},
    )  # fmt: skip

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        field: Any = self.fields['file']
        field.queryset = BulkFile.objects.filter(transaction=self.kind).order_by('name')
        label = dict(TRANSACTIONS)[self.kind]
        field.help_text = gettext('Files uploaded as %(transaction)s.') % {'transaction': label}
        field.empty_label = gettext('Choose a file')


def file_form(transaction: str) -> type[FileForm]:
    """The form of a page for files of one transaction type."""
    return type(f'FileForm_{transaction}', (FileForm,), {'kind': transaction, '__doc__': FileForm.__doc__})


class UsersForm(forms.Form):
    """Which users to export."""

    category = forms.ChoiceField(label=gettext_lazy('Users'), choices=CATEGORIES, required=False, initial='all')
    node = forms.ModelChoiceField(
        Node.objects.order_by('name'), to_field_name='name', label=gettext_lazy('Node'), required=False
    )
    match = forms.ChoiceField(label=gettext_lazy('Find users where'), choices=MATCH, required=False, initial='all')
    conditions = forms.JSONField(label=gettext_lazy('Conditions'), required=False, widget=forms.HiddenInput)

    def clean_category(self) -> str:
        """All users unless chosen otherwise."""
        return self.cleaned_data['category'] or 'all'

    def clean_match(self) -> str:
        """All conditions unless chosen otherwise."""
        return self.cleaned_data['match'] or 'all'

    def clean_conditions(self) -> list[list[str]]:
        """A list of [field, operator, text]."""
        conditions = self.cleaned_data['conditions'] or []
        known = {key for key, _ in OPERATORS}
        if not isinstance(conditions, list) or not all(
            isinstance(one, list)
            and len(one) == 3
            and one[0] in FIND_FIELDS
            and one[1] in known
            and isinstance(one[2], str)
            and '\0' not in one[2]
            for one in conditions
        ):
            text = gettext(
                'Each condition is a list of field, operator and text. Fields: %(fields)s. Operators: %(ops)s.'
            )
            raise ValidationError(text % {'fields': ', '.join(FIND_FIELDS), 'ops': ', '.join(sorted(known))})
        return conditions

    def clean(self) -> dict[str, Any]:
        """A node is needed for the users of a node."""
        data = super().clean() or self.cleaned_data
        if data.get('category') == 'node' and not data.get('node') and 'node' not in self.errors:
            self.add_error('node', gettext('Choose a node.'))
        return data


class ExportForm(JobForm):
    """A job that writes a file."""

    field_order: Any = ('name', 'cells', 'description', 'run')
    name = forms.CharField(
        label=gettext_lazy('File Name'), max_length=120,
        help_text=gettext_lazy('1 to 120 characters. The time of the export and .csv are added.'),
    )  # fmt: skip
    cells = forms.ChoiceField(
        label=gettext_lazy('Cells'), choices=CELLS, required=False, initial='protect', widget=forms.RadioSelect,
        help_text=gettext_lazy('Protected cells begin with an apostrophe. An import takes it away again.'),
    )  # fmt: skip

    def clean_name(self) -> str:
        """A plain file name."""
        return files.check_name(self.cleaned_data['name']).removesuffix('.csv')

    def clean_cells(self) -> str:
        """Protected unless chosen otherwise."""
        return self.cleaned_data['cells'] or 'protect'


class ContactExportForm(UsersForm, ExportForm):
    """Contact List > Export Contact List."""

    field_order = ('category', 'node', 'match', 'conditions', *ExportForm.field_order)


class ScheduleForm(forms.Form):
    """When a job starts."""

    scheduled_at = forms.DateTimeField(
        label=gettext_lazy('Scheduled Time'), required=False,
        widget=forms.DateTimeInput(attrs={'type': 'datetime-local', 'step': '1'}, format='%Y-%m-%dT%H:%M:%S'),
        help_text=gettext_lazy('Date and time in the time zone of the server. Empty: as soon as the job is activated.'),
    )  # fmt: skip
