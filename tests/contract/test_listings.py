"""What the stores read for a page of a list: with Firestore, each document has its price."""

from __future__ import annotations

from cloud_adapter.ports import Order
from cloud_adapter.stores.listings import PageReader
from cloud_adapter.summaries import Summary
from workflow_core import Status


def test_in_place_of_damaged_documents_only_as_many_others_are_read() -> None:
    reader = PageReader(Order.ID, 10)
    assert reader.wanted == 11, "the first one of the next page tells that there is one"
    for number in range(8):
        assert not reader.add(Summary("shop", f"{number}", Status.WAITING))
    assert reader.wanted == 3
