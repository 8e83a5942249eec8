"""Secrets at rest: with a codec, no stored byte contains one; everything that comes back is what was stored."""

from __future__ import annotations

import json
import logging
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from pydantic import BaseModel, SecretStr

from cloud_adapter.codecs.fernet import FernetCodec, new_key
from cloud_adapter.document import DOCUMENT_BYTES_MAX, encode
from cloud_adapter.engine.operations import Cancel, SetFields
from cloud_adapter.engine.refs import InstanceRef
from cloud_adapter.engine.task_handler import Outcome
from cloud_adapter.errors import DamagedDocument, SecretsUnreadable, TooLarge, Unavailable
from tests.engine.harness import ID, Process, World, in_world
from workflow_core import Activity, Child, On, S, Select, Status, Step, Workflow, WorkflowError
from workflow_core.wait_types import ChildWait

SECRET = "hunter2"
OLD, NEW, OTHER = new_key(), new_key(), new_key()
SEEN: list[tuple[str, str]] = []


class Login(BaseModel):
    user: str = "ada"
    token: SecretStr = SecretStr("")


LOGIN = {"user": "ada", "token": SECRET}


def login() -> Login:
    return Login(token=SecretStr(SECRET))


def see(where: str, login: Login) -> Login:
    SEEN.append((where, login.token.get_secret_value()))
    return login


class Vault(Workflow, name="vault"):
    login: Login = Login()

    def check(self) -> None:
        see("child", self.login)

    def result(self) -> Login:
        return self.login

    definition = S(Step("check", check))


def renew(login: Login) -> Login:
    return see("activity", login)


class Account(Workflow, name="account"):
    search_fields = ("note",)

    login: Login = Login()
    note: str = "a note"
    count: float = 0.1

    def log_in(self, login: Login) -> Login:
        self.login = see("event", login)
        return login

    def later(self, login: Login) -> None:
        self.login = see("buffer", login)

    def take(self, login: Login) -> None:
        self.login = see("result", login)

    definition = S(
        Select("first", On("LogIn", log_in)),
        Activity("renew", renew, input=lambda w: w.login, then=take),
        Child("vault", Vault, input=lambda w: {"login": w.login}, then=take),
        Select("second", On("Later", later, buffered=True)),
        Select("third", On("End", lambda w: None)),
    )


def stored_bytes(world: World) -> bytes:
    """Everything that has left the memory of the processes: the files of the database, and the queue."""
    files = sorted(world.directory.glob("world.sqlite*"))
    assert files
    tasks = json.dumps([(task.name, task.body, task.group) for task in world.queue.created])
    return b"".join(file.read_bytes() for file in files) + tasks.encode()


def contended(world: World) -> None:
    """Makes results go to the inbox."""
    world.process.engine.lanes.met_others(InstanceRef(Account, ID))


async def deliver_one(world: World, path: str) -> None:
    task = next(task for task in world.queue.tasks.values() if task.path == path)
    assert await world.process.deliver(task) is Outcome.DONE


async def run_through(world: World) -> None:
    """Takes a secret everywhere: to the fields, a key, an activity, a child, the buffer, and twice to the inbox."""
    SEEN.clear()
    await world.create(login=LOGIN, key="created")
    assert await world.send("LogIn", LOGIN, key="k") == await world.send("LogIn", LOGIN, key="k")
    with pytest.raises(WorkflowError):
        await world.send("LogIn", {"user": "ada", "token": [SECRET]})
    assert await world.finish(world.process.post("Later", json.dumps(LOGIN).encode())) == b""
    contended(world)
    await deliver_one(world, "/activity")
    assert len(await world.store.inbox("account", ID)) == 1
    await world.clock.advance_to(world.now + timedelta(seconds=2))
    await deliver_one(world, "/callback/collect")
    assert (await world.instance()).execution.threads[0].waits[0].kind == "child"
    await deliver_one(world, "/resume")  # starts the child
    contended(world)
    await deliver_one(world, "/resume")  # runs the child
    assert len(await world.store.inbox("account", ID)) == 1
    await world.pass_time(timedelta(seconds=2))
    order = SetFields(fields={"login": LOGIN, "note": "set"}, by="me", reason="test")
    await world.finish(world.process.engine.operate("account", ID, order))


@in_world(Account, Vault, codec=FernetCodec([OLD]))
async def test_no_stored_byte_and_no_log_contains_it(world: World, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG):
        await run_through(world)
    assert SECRET.encode() not in stored_bytes(world)
    assert SECRET not in str([vars(record) for record in caplog.records])
    assert [where for where, _ in SEEN] == ["event", "activity", "result", "child", "result", "buffer"]
    assert {secret for _, secret in SEEN} == {SECRET}
    view = await world.process.engine.get("account", ID)
    assert view.workflow == Account(login=login(), note="set")
    assert json.loads((await world.instance()).fields)["note"] == "set", "what is not secret stays readable"
    page = await world.process.engine.list("account", search={"note": "set"})
    assert [instance.id for instance in page.instances] == [ID]


@in_world(Account, Vault)
async def test_without_a_codec_the_bytes_contain_it(world: World) -> None:
    await run_through(world)
    assert SECRET.encode() in stored_bytes(world)


@in_world(Account, Vault, codec=FernetCodec([OLD]))
async def test_what_was_stored_without_encryption_is_encrypted_by_the_next_commit(world: World) -> None:
    world.codec = None
    plain, encrypting = world.start(), world.process
    body = json.dumps({"login": LOGIN}).encode()
    await world.finish(plain.engine.create("account", ID, body, key="k"))
    assert SECRET in (await world.instance()).fields
    await world.finish(encrypting.engine.create("account", ID, body, key="k"))
    await encrypting.send("LogIn", LOGIN)
    assert SECRET not in str(encode(await world.instance()))
    with pytest.raises(SecretsUnreadable, match=r"no key: set GORCHESTRATE_SECRET_KEYS or GORCHESTRATE_KMS_KEY"):
        await plain.engine.get("account", ID)


@in_world(Account, Vault, codec=FernetCodec([OLD]))
async def test_keys_are_rotated(world: World) -> None:
    await world.started(login=LOGIN)
    world.codec = FernetCodec([NEW, OLD])
    both = world.start()
    assert (await both.engine.get("account", ID)).workflow == Account(login=login())
    world.codec = FernetCodec([NEW])
    with pytest.raises(SecretsUnreadable, match=r"no key of GORCHESTRATE_SECRET_KEYS fits"):
        await world.start().engine.get("account", ID)
    await both.send("LogIn", LOGIN)
    assert (await world.start().engine.get("account", ID)).workflow == Account(login=login())


@in_world(Account, Vault, codec=FernetCodec([OLD]))
async def test_a_process_without_the_key_changes_nothing(world: World) -> None:
    await world.started(login=LOGIN)
    await world.send("LogIn", LOGIN, key="k")
    before = await world.instance()
    world.codec = FernetCodec([OTHER])
    other = world.start()
    for task in list(world.queue.tasks.values()):
        assert await other.deliver(task) is Outcome.NOT_YET, "the task is sent again, to a process with the key"
    for key in (None, "k"):
        with pytest.raises(SecretsUnreadable):
            await other.send("LogIn", LOGIN, key=key)
    with pytest.raises(SecretsUnreadable):
        await world.finish(other.engine.operate("account", ID, SetFields(fields={"note": "x"})))
    assert await world.instance() == before
    assert [instance.id for instance in (await other.engine.list("account")).instances] == [ID]


async def with_a_child(world: World) -> tuple[Process, str]:
    """Starts a child. Returns a process whose secrets the first one cannot read, and the id of the child."""
    SEEN.clear()
    await world.started(login=LOGIN)
    await world.send("LogIn", LOGIN)
    await deliver_one(world, "/activity")
    await deliver_one(world, "/resume")  # starts the child
    (wait,) = (await world.instance()).execution.threads[0].waits
    assert isinstance(wait, ChildWait)
    world.codec = FernetCodec([NEW, OLD])
    return world.start(), wait.child["id"]


@in_world(Account, Vault, codec=FernetCodec([OLD]))
async def test_the_end_of_a_child_waits_in_the_inbox_for_a_process_with_the_key_of_its_parent(world: World) -> None:
    newer, _ = await with_a_child(world)
    await world.finish(newer.engine.operate("account", ID, SetFields(fields={"note": "new key"})))
    await deliver_one(world, "/resume")  # runs the child
    assert len(await world.store.inbox("account", ID)) == 1
    assert SECRET.encode() not in stored_bytes(world)
    await world.pass_time(timedelta(seconds=2), newer)
    assert SEEN[-1] == ("result", SECRET)
    assert [where for where, _ in SEEN].count("child") == 1


class Keeper(Workflow, name="keeper"):
    token: SecretStr = SecretStr(SECRET)
    definition = S(Step("s", lambda w: None))


class Unaware(Workflow, name="unaware"):
    definition = S(Child("keeper", "keeper"))


@in_world(Unaware, Keeper, codec=FernetCodec([OLD]))
async def test_a_secret_result_is_encrypted_even_if_its_receiver_handles_no_secrets(world: World) -> None:
    await world.create()
    await deliver_one(world, "/resume")  # starts the child
    world.process.engine.lanes.met_others(InstanceRef(Unaware, ID))
    await deliver_one(world, "/resume")  # runs the child
    (entry,) = await world.store.inbox("unaware", ID)
    assert entry.body.startswith("encrypted:")
    await world.pass_time(timedelta(seconds=2))
    assert (await world.instance()).execution.status is Status.FINISHED


@in_world(Account, Vault, codec=FernetCodec([OLD]))
async def test_a_child_is_canceled_by_a_process_with_its_key(world: World) -> None:
    newer, child = await with_a_child(world)
    await world.finish(newer.engine.operate("vault", child, SetFields(fields={"login": LOGIN})))
    await world.finish(world.process.engine.operate("account", ID, Cancel()))
    (task,) = (task for task in world.queue.tasks.values() if task.body["workflow"] == "account" and not task.at)
    assert await world.process.deliver(task) is Outcome.NOT_YET
    (teardown,) = (await world.instance()).execution.teardowns
    assert teardown.attempt == 0, "it is no failure of the cancellation"
    await world.clock.advance_to(world.now + world.options.lease + timedelta(seconds=1))
    assert await newer.deliver(task) is Outcome.DONE
    assert (await world.store.load("vault", child)).execution.status is Status.CANCELED


@in_world(Account, Vault, codec=FernetCodec([OLD]))
async def test_recovery_skips_what_it_cannot_read(world: World, caplog: pytest.LogCaptureFixture) -> None:
    engine = world.process.engine
    await world.finish(engine.create("vault", ID, json.dumps({"login": LOGIN}).encode()))
    world.queue.purge()
    world.codec = FernetCodec([OTHER])
    assert await world.start().engine.recover() == 0
    assert "no key of GORCHESTRATE_SECRET_KEYS fits" in str([vars(record) for record in caplog.records])
    assert await engine.recover() == 1


@in_world(Account, Vault, codec=FernetCodec([OLD]))
async def test_an_encrypted_secret_cannot_be_moved(world: World) -> None:
    for id in ("mine", "theirs"):
        await world.create(id=id, login=LOGIN | {"token": f"of {id}"})
        await world.deliver()
    theirs, mine = await world.instance("theirs"), await world.instance("mine")
    await world.store.commit(replace(mine, fields=theirs.fields))
    with pytest.raises(SecretsUnreadable, match=r"'login' of 'account' 'mine' cannot be decrypted: .* was moved here"):
        await world.process.engine.get("account", "mine")


@pytest.mark.parametrize("damage", ['{"$encrypted": 1}', '{"$encrypted": {"login": 1}}', "[]", "{", '"x"'])
@in_world(Account, Vault, codec=FernetCodec([OLD]))
async def test_a_damaged_document_is_reported(world: World, damage: str) -> None:
    await world.started(login=LOGIN)
    await world.store.commit(replace(await world.instance(), fields=damage))
    with pytest.raises(DamagedDocument):
        await world.process.engine.get("account", ID)


class Unreachable:
    """A codec whose service answers only when it is told to."""

    def __init__(self) -> None:
        self.codec, self.down = FernetCodec([OLD]), False

    async def encrypt(self, text: bytes, context: str) -> str:
        return await self._codec().encrypt(text, context)

    async def decrypt(self, text: str, context: str) -> bytes:
        return await self._codec().decrypt(text, context)

    async def close(self) -> None: ...

    def _codec(self) -> FernetCodec:
        if self.down:
            raise Unavailable("the service of the keys did not answer")
        return self.codec


SERVICE = Unreachable()


@in_world(Account, Vault, codec=SERVICE)
async def test_without_the_service_of_the_keys_nothing_changes(world: World) -> None:
    SERVICE.down = False
    await world.started(login=LOGIN)
    before, tasks = await world.instance(), len(world.queue.created)
    encrypt, SERVICE.down = SERVICE.encrypt, False

    async def fail(text: bytes, context: str) -> str:
        raise Unavailable("down")

    SERVICE.encrypt = fail  # type: ignore[method-assign]
    with pytest.raises(Unavailable, match="down"):
        await world.send("LogIn", LOGIN)
    SERVICE.encrypt = encrypt  # type: ignore[method-assign]
    SERVICE.down = True
    with pytest.raises(Unavailable):
        await world.send("LogIn", LOGIN)
    assert await world.instance() == before
    assert len(world.queue.created) == tasks
    SERVICE.down = False
    await world.send("LogIn", LOGIN)


@in_world(Account, Vault, codec=FernetCodec([OLD]))
async def test_the_size_is_that_of_the_encrypted_document(world: World) -> None:
    await world.started()
    fits_only_plain = LOGIN | {"token": "x" * (DOCUMENT_BYTES_MAX * 4 // 5)}
    tasks = len(world.queue.created)
    with pytest.raises(TooLarge, match=r"its largest field is 'login'"):
        await world.finish(world.process.engine.operate("account", ID, SetFields(fields={"login": fits_only_plain})))
    assert len(world.queue.created) == tasks


class Public(Workflow, name="public"):
    note: dict[str, Any] = {}

    def write(self, note: dict[str, Any]) -> None:
        self.note = note

    definition = S(Select("s", On("Write", write)), Select("t", On("Write", write)))


@in_world(Public, codec=FernetCodec([OLD]))
async def test_a_workflow_without_secrets_is_stored_as_before(world: World) -> None:
    await world.started()
    note = {"$encrypted": {"note": "text"}, "shown": "encrypted:x"}
    await world.send("Write", note, key="encrypted:k")
    stored = await world.instance()
    assert not stored.is_sealed
    assert json.loads(stored.fields) == {"note": note}
    assert encode(stored)["format"] == 1


class Notes(Workflow, name="notes"):
    token: SecretStr = SecretStr("")
    note: Any = None

    def write(self, note: Any) -> None:
        self.note = note

    definition = S(Select("s", On("Write", write)), Select("t", On("Write", write)))


@in_world(Notes, codec=FernetCodec([OLD]))
async def test_a_value_that_looks_encrypted_is_kept(world: World) -> None:
    await world.started(token=SECRET)
    for note in ({"$encrypted": {"token": "fernet:x"}}, "encrypted:x"):
        await world.send("Write", note)
        view = await world.process.engine.get("notes", ID)
        assert view.workflow == Notes(token=SecretStr(SECRET), note=note)
        assert SECRET.encode() not in stored_bytes(world)
        if view.instance.execution.status is not Status.WAITING:
            return
