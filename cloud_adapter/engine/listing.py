"""Lists of instances, for code in this process and for principals."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from cloud_adapter.engine.user_code import call
from cloud_adapter.errors import InvalidRequest, UserCodeError
from cloud_adapter.ports import PAGE_SIZE_MAX, Order, Page, Store
from cloud_adapter.stores.search import search_values, stored_value
from workflow_core import Principal, Status, Workflow
from workflow_core.access import has_role, is_everyone
from workflow_core.error_texts import error_text
from workflow_core.events import stable_key
from workflow_core.records import record


@record(frozen=True, slots=True)
class Listing:
    """A request for a page of a list. For the attributes, see ``Engine.list``; ``search`` has stored values."""

    cls: type[Workflow]
    status: str | None
    search: Mapping[str, Sequence[Any]]
    order: Order
    limit: int
    cursor: str | None

    @classmethod
    def checked(
        cls,
        workflow: type[Workflow],
        status: str | None,
        search: Mapping[str, str],
        order: str,
        limit: int,
        cursor: str | None,
    ) -> Listing:
        """Returns the listing for the arguments of a request.

        Raises:
            InvalidRequest: an argument is invalid.
        """
        values = search_values(workflow, search)
        if status is not None and status not in set(Status):
            raise InvalidRequest(f"unknown status {status[:100]!r}. Available: {', '.join(Status)}")
        if not 1 <= limit <= PAGE_SIZE_MAX:
            raise InvalidRequest(f"limit is {limit}: it must be 1 to {PAGE_SIZE_MAX}")
        if order not in set(Order):
            raise InvalidRequest(f"unknown order {order[:100]!r}. Available: {', '.join(Order)}")
        return cls(workflow, status, values, Order(order), limit, cursor)

    async def read(self, store: Store, principal: Principal | None) -> Page:
        """Reads the page: all instances, or those that are visible to a principal, whose role was checked.

        Raises:
            UserCodeError: ``visible`` of the workflow is wrong.
            InvalidRequest, Unavailable
        """
        if principal is None:
            return await self._page(store)
        filters = {} if is_everyone(principal) else visible(self.cls, principal)
        page = await (self._narrowed(store, filters) if filters else self._page(store))
        # Documents that cannot be read may be any.
        return page if has_role(principal, self.cls.access.operate) else replace(page, damaged=())

    async def _page(self, store: Store) -> Page:
        name = self.cls.__workflow_name__
        return await store.list(
            name, status=self.status, search=self.search, order=self.order, limit=self.limit, cursor=self.cursor
        )

    async def _narrowed(self, store: Store, filters: Mapping[str, Any]) -> Page:
        """Reads the page of the instances with these values. Its cursor is bound to them."""
        salt, search, cursor = stable_key(sorted(filters.items()))[:16], dict(self.search), self.cursor
        if cursor is not None:
            bound, _, cursor = cursor.partition(".")
            if bound != salt:
                raise InvalidRequest(f"{self.cursor!r:.100} is not a cursor of this list: pass none")
        for name, value in filters.items():
            if name in search and not any(type(other) is type(value) and other == value for other in search[name]):
                return Page((), None)
            search[name] = (value,)
        page = await replace(self, search=search, cursor=cursor)._page(store)
        return page if page.cursor is None else replace(page, cursor=f"{salt}.{page.cursor}")


def visible(cls: type[Workflow], principal: Principal) -> dict[str, Any]:
    """Returns the values, as they are stored, that instances must have to be visible to a principal.

    Raises:
        UserCodeError: ``visible`` of the workflow raised an error, or did not return values of search fields.
    """
    where = f"'visible' of workflow {cls.__workflow_name__!r}"
    try:
        found: object = call(cls.visible, principal)
    except Exception as error:
        raise UserCodeError(f"{where} raised {error_text(error)}") from error
    if found is None:
        return {}
    if not isinstance(found, Mapping):
        raise UserCodeError(f"{where} returned {found!r:.60}. Return a dict of values for search fields, or None")
    for name in found:
        if name not in cls.search_fields:
            known = ", ".join(cls.search_fields) or "none"
            raise UserCodeError(
                f"{where} returned the field {name!r:.60}, which is not a search field. Those are: {known}"
            )
    try:
        return {name: stored_value(cls, name, value) for name, value in found.items()}
    except Exception as error:
        raise UserCodeError(f"{where} returned a value that its field does not allow: {error_text(error)}") from error
