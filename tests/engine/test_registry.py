"""Which workflows an engine can serve."""

from __future__ import annotations

import pytest

from cloud_adapter.engine.registry import by_name
from workflow_core import DefinitionError, On, S, Select, Workflow


@pytest.mark.parametrize(
    ("event", "reason"),
    [
        ("retry", "its event 'retry' has the name of an operation on instances"),
        ("cancel", "its event 'cancel' has the name of an operation on instances"),
        (".", "its event '.' is not valid in a URL"),
        ("..", "its event '..' is not valid in a URL"),
    ],
)
def test_an_event_that_no_client_could_send_is_refused(event: str, reason: str) -> None:
    class Order(Workflow, name="order"):
        definition = S(Select("open", On("Pay", lambda order: None), On(event, lambda order: None)))

    with pytest.raises(DefinitionError) as caught:
        by_name([Order])
    assert str(caught.value).startswith(f"workflow 'order': {reason}")


def test_other_names_with_dots_are_served() -> None:
    class Order(Workflow, name="order"):
        definition = S(Select("open", On("...", lambda order: None), On("a.b", lambda order: None)))

    assert by_name([Order]) == {"order": Order}
