"""REST from the page declarations."""

from rest_framework.pagination import LimitOffsetPagination


class Pagination(LimitOffsetPagination):
    """limit and offset, at most 1,000 a page."""

    default_limit = 50
    max_limit = 1000
