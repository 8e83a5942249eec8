"""What no run of the simulation meets, with the reason. See ``coverage.py``.

A gap is named by its file, its function and the text of its first line, so the list survives other changes.
"""

from __future__ import annotations

LIBRARY = "only the library, without an engine, runs steps and activities this way"
DAMAGED = "only a damaged document, or one of an earlier release, leads here"
MISTAKE = "only a mistake in a definition or in the code of a workflow leads here; it is found by ordinary tests"
DEFENSIVE = "defensive: no caller of the engine leads here"
ABSTRACT = "an abstract method"
PAGES = "only the pages, the API or the command line use it"
KINDS = "the generated definitions have no such statement, field or handler"
LARGE = "takes more instances, threads or bytes than a run has"
THREADS = "takes a thread of the system, or a system that has none left"
GONE = "only code that an instance does not fit leads here: every revision has all statements, with the same types"

PRINCIPALS = "no principal of a run needs it: all have an id, or are everybody"
CALLBACKS = "no code of a run asks for the URL of a callback"
NARROWED = "no workflow of a run has an authorize or a visible of its own"
LOCALS = "the generated plain definitions have simple locals only, which are not changed in place, and one version"
TRANSACTIONAL = "the simulated queue is not in the transaction of the store"
REPLACED = "only a test that replaces a method of a workflow leads here"
KEYS = "all processes of a run have the same key, and what is damaged cannot be parsed"

_E, _M, _C = "cloud_adapter/engine/", "workflow_core/machine/", "workflow_core/"

_BY_REASON: dict[str, tuple[tuple[str, str, str], ...]] = {
    LIBRARY: (
        (f"{_C}execution.py", "Execution.to_dict", "data: dict[str, Any] = _adapter().dump_python("),
        (f"{_M}alone.py", "_run", "return machine or Machine(workflow, execution, now, True)"),
        (f"{_C}program/program.py", "Program.select", "raise self.unknown(name)"),
        (f"{_C}program/program.py", "Program.step", "raise self.unknown(name)"),
        (f"{_C}workflow.py", "Workflow.result_json", "return self.pack_result().text"),
    ),
    DAMAGED: (
        (f"{_E}tasks.py", "timer_name", "return fence  # an earlier release stored the name itself"),
        (f"{_C}compact.py", "_column", "elif kinds in _SHARED:"),
        (f"{_C}compact.py", "_column", "if all([*value] == keys for value in values):"),
        (f"{_C}compact.py", "_column", "if all(len(value) == len(first) for value in values):"),
        (f"{_C}compact.py", "_leave_ids_out", 'if wait["id"] == wait_id:'),
        (f"{_C}compact.py", "_pairs", 'raise ValueError(f"no counts in {flat!r:.100}")'),
        (
            f"{_C}compact.py",
            "_unfold_list",
            'raise ValueError(f"the places {first!r:.100} and {length - 1} after it are not free")',
        ),
        (f"{_C}compact.py", "_unfold_list", 'raise ValueError(f"there are {len(places)} places, but {total} entries")'),
        (f"{_C}compact.py", "_values", 'raise ValueError(f"unknown column {kind!r:.100} of {count} values")'),
        (f"{_C}compact.py", "_width", 'raise ValueError("its columns are nested too deeply")'),
        (f"{_C}compact.py", "fold", "if cells <= cells_left:"),
        (
            f"{_C}compact.py",
            "unfold",
            "except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:",
        ),
        (
            f"{_C}compact.py",
            "unfold",
            'raise ValueError(f"its groups contain {cells:,} values, the limit is {CELLS_MAX:,}")',
        ),
    ),
    MISTAKE: (
        (f"{_E}children.py", "_end", "except Exception as error:"),
        (f"{_E}failures.py", "take_result", "except Exception as raised:"),
        (f"{_E}registry.py", "by_name", "raise DefinitionError("),
        (f"{_E}session.py", "Session.next_work", "except WorkflowError:"),
        (
            "cloud_adapter/stores/search.py",
            "_why_not",
            'return "the value of a search field must be a text, a number, a boolean or null"',
        ),
        (f"{_M}due.py", "_holds", "except BaseException as error:"),
        (
            f"{_M}events.py",
            "handle_json",
            "message = \"the result contains secrets: annotate the parameter of 'then' with a type that has them too\"",
        ),
        (f"{_M}instructions.py", "refuse_result", "if iscoroutine(result):"),
        (f"{_M}endless.py", "rested", "raise endless(thread, allowance)"),
        (f"{_M}alone.py", "_run", "refuse_result(value, step)"),
        (f"{_M}passing.py", "_stored", "if isinstance(leaf, float) and not math.isfinite(leaf):"),
        (f"{_M}passing.py", "pack_result", "except _ERRORS as error:"),
        (
            f"{_M}threads.py",
            "go",
            'raise ExecutionError(f"Go {instruction.name!r}: its id function returned {value!r}. Return a text")',
        ),
        (f"{_M}values.py", "item_of", "raise ExecutionError("),
        (f"{_M}values.py", "json_of", "except PydanticSerializationError as error:"),
        (
            f"{_M}values.py",
            "json_of",
            'raise ExecutionError(f"{what} contains a secret, which would be shown. Keep it in a field, or outside")',
        ),
        (
            f"{_M}values.py",
            "json_of",
            'raise ExecutionError(f"{what} contains {leaf}. JSON has no such number: use None or a text")',
        ),
        (f"{_C}retry.py", "Retry.delay", "except OverflowError:"),
        (f"{_C}workflow.py", "Workflow.dump_fields", "except PydanticSerializationError as error:"),
        (f"{_C}workflow.py", "Workflow.load_fields", "except Exception as error:"),
        (f"{_C}workflow.py", "Workflow.refuse_changes", "except Changed as error:"),
        (f"{_C}workflow.py", "migrated", "except Exception as error:"),
        (f"{_C}workflow.py", "Workflow.pack_result", "except PydanticSerializationError as error:"),
    ),
    DEFENSIVE: (
        ("cloud_adapter/document.py", "with_lease", "if document is not None:"),
        (f"{_E}children.py", "Children.perform", "case _:"),
        (f"{_E}lanes.py", "Lanes.contended", "return self._contended.keys()"),
        (f"{_E}transaction.py", "Transactor._refuse_duplicates", "except Exception as raised:"),
        (f"{_M}threads.py", "_remove", "for index, other in enumerate(threads):"),
        (f"{_M}transitions.py", "check_thread", 'what = f"thread {thread.id!r} at {thread.step!r}"'),
        (f"{_M}transitions.py", "check_wait", 'what = f"the wait {wait.id!r} for {wait.event!r}"'),
        (f"{_M}unwinding.py", "_fail_branch", "return"),
        (
            "cloud_adapter/document.py",
            "Instance.history",
            'raise ValueError(f"the history of {self.workflow!r} {self.id!r} was not loaded")',
        ),
    ),
    ABSTRACT: (
        (f"{_E}decisions.py", "Decision.decide", "raise NotImplementedError"),
        (f"{_E}deliveries.py", "TaskDecision.deliver", "raise NotImplementedError"),
        (f"{_E}decisions.py", "Deferrable.content", "raise NotImplementedError"),
        (f"{_E}decisions.py", "Deferrable.name", "raise NotImplementedError"),
        (f"{_E}operations.py", "Operation.apply", "raise NotImplementedError"),
        (f"{_M}state.py", "MachineState.run", "raise NotImplementedError"),
        (f"{_M}work.py", "Work.attempt", "raise NotImplementedError"),
        (f"{_M}work.py", "Work.call", "return None"),
        (f"{_M}work.py", "Work.done", "raise NotImplementedError"),
        (f"{_M}work.py", "Work.statement", "raise NotImplementedError"),
        (f"{_C}wait_types.py", "Wait.left", "return None"),
    ),
    PAGES: (
        (f"{_E}operations.py", "Action.is_offered", "return not execution.ended"),
        (f"{_E}recent_sessions.py", "RecentSessions.__len__", "return len(self._sessions)"),
        (f"{_C}execution.py", "is_hidden", 'return key.rpartition("/")[2].startswith(".")'),
        (f"{_C}program/program.py", "Program.max_bytes", "cases = self.events.get(self.event(event), ())"),
    ),
    KINDS: (
        ("cloud_adapter/stores/search.py", "_canonical_decimal", "return value"),
        (f"{_M}events.py", "handle", "return None"),
        (f"{_M}passing.py", "pack_fields", "return _stored(type(given).__input_form__.pack(given))"),
        (f"{_M}waits.py", "_deadline", "return delay.astimezone(UTC)"),
        (f"{_C}workflow.py", "Workflow.migrate", "return fields"),
        (f"{_C}workflow.py", "Workflow.pack_result", "packed = cls.__form__.pack(self)"),
        (f"{_C}workflow.py", "Workflow.refuse_changes", "if (compare := type(self).__form__.compare) is not None:"),
        (f"{_C}events.py", "known_time", "if now is None:"),
        (f"{_C}events.py", "StepContext.now", "return known_time(self.at)"),
        (f"{_C}events.py", "ActivityContext.cancelled", "return self.is_over()"),
        (f"{_C}events.py", "EventRequest.now", "return known_time(self.at)"),
        (
            f"{_M}calls.py",
            "report",
            "if isinstance(accepted.case, ActivityCase) and accepted.case.activity.heartbeat is not None:",
        ),
        (f"{_M}secrets.py", "_forms", "if cls.__result__ is not None:"),
        (f"{_M}secrets.py", "_forms_of", "if signature is not None:"),
        (f"{_M}secrets.py", "secret_inputs", "found[_buffer_place(index)] = event.input"),
        (f"{_M}values.py", "keywords", "given[NOW] = known_time(machine.now)"),
        (f"{_M}values.py", "Frame.now", "return known_time(self._machine.now)"),
    ),
    LARGE: (
        (f"{_E}activities.py", "Activities._is_over", "accepted = awaited(await self.committer.load(ref), result)"),
        (f"{_E}activities.py", "Activities.deliver", "is_delivered = await self._is_over(ref, result, error)"),
        (f"{_E}idempotency.py", "record_of", "raise ResponseTooLarge("),
        (f"{_E}schedule.py", "stop_before", "half = horizon / 2"),
        (f"{_E}transaction.py", "Transactor._ask_all", "item.single = True"),
        (f"{_E}recent_sessions.py", "RecentSessions.keep", "self._pop(next(iter(self._sessions)))"),
        (f"{_E}recovery.py", "_until", "if _place(due) in seen:"),
        (f"{_E}recovery.py", "_until", "if after is None or _place(after) != _place(last):"),
        (f"{_M}alone.py", "_lone", "thread = threads.lone()"),
        (f"{_M}alone.py", "handle_alone", "threads.woken(thread)"),
    ),
    THREADS: (
        (
            f"{_E}sync_pool.py",
            "DaemonThreads._start",
            "except RuntimeError:  # the system cannot start more threads, so the call waits for an existing one",
        ),
        (
            f"{_E}sync_pool.py",
            "DaemonThreads._next",
            "continue  # a call was put just now, because this thread counts as idle",
        ),
        (f"{_E}sync_pool.py", "DaemonThreads._next", "if call is None:"),
        (f"{_E}sync_pool.py", "DaemonThreads.idle", "with self._lock:"),
        (f"{_E}sync_pool.py", "DaemonThreads.shutdown", "for thread in threads:"),
        (f"{_E}sync_pool.py", "DaemonThreads.shutdown", "while cancel_futures:"),
        (f"{_E}sync_pool.py", "DaemonThreads.threads", "with self._lock:"),
        (f"{_E}sync_pool.py", "SyncPool.__call__", "async with self.reserved() as run:"),
        (
            f"{_E}sync_pool.py",
            "_Reservation.__aexit__",
            "self.call.add_done_callback(partial(self._ended, asyncio.get_running_loop()))",
        ),
        (f"{_E}sync_pool.py", "_Reservation._ended", "with suppress(RuntimeError):  # the event loop is closed"),
        (f"{_E}sync_pool.py", "SyncPool._take", "except asyncio.CancelledError:"),
        (f"{_E}sync_pool.py", "SyncPool._give_back", "if not turn.done():"),
        (f"{_E}sync_pool.py", "SyncPool.close", "turn.cancel()"),
        (f"{_E}sync_pool.py", "Call.make", "return"),
        (
            f"{_E}sync_pool.py",
            "DaemonThreads.check_open",
            'raise RuntimeError(f"the threads {self._name} are shut down, because the process is ending")',
        ),
        (f"{_E}sync_pool.py", "DaemonThreads.shutdown", "call.future().cancel()"),
    ),
    GONE: (
        (f"{_M}surroundings.py", "_check_former", "raise UnknownStatement("),
        (f"{_M}stored_values.py", "check_values", 'fix = f"{unfit.fix}, deploy" if unfit.fix else "deploy"'),
        (f"{_M}stored_values.py", "_inputs", "except InvalidInput as error:"),
        (
            f"{_M}stored_values.py",
            "_locals",
            'what = f"it is at {thread.step!r}, where the code now needs {local.in_words}, which it does not have"',
        ),
        (f"{_M}stored_values.py", "_locals", "except ExecutionError as error:"),
        (
            f"{_M}stored_values.py",
            "reasons_of",
            """return "; ".join(f"{detail['field'] or 'input'}: {detail['message']}" for detail in error.errors)""",
        ),
        (f"{_M}values.py", "Frame.error", "raise ExecutionError("),
        (f"{_E}operations.py", "_settle_if_known", "except UnknownStatement:"),
        (f"{_E}task_handler.py", "run_task", '_logger.exception("task to %s failed: %s", path, dict(body))'),
        (f"{_M}events.py", "accepted_by", "except KeyError:"),
        (f"{_M}events.py", "event_handler", "raise machine.program.unknown(event)"),
        (
            f"{_M}instructions.py",
            "_left",
            (
                'raise machine.program.unknown(f"{leave.kind.value} out'
                ' of {instruction.name}")  # removed from the definition'
            ),
        ),
        (f"{_M}operations.py", "_positions_at", "except UnknownStatement:  # it may have been in any of them"),
        (f"{_C}program/program.py", "Program.start_of", "except KeyError:"),
        (f"{_C}program/program.py", "Program.statements_of", "raise self.unknown(thread)"),
    ),
    PRINCIPALS: (
        (f"{_E}events.py", "SendEvent._check_buffering", "raise caller.refused_event(event, refused)"),
        (f"{_E}line.py", "Item.check", "self.decision.is_unchecked = False"),
        (f"{_E}registry.py", "without", "if workflows.get(cls.__workflow_name__) is not cls:"),
        (f"{_E}awaited.py", "_until_more", "seconds.append((check_at - now).total_seconds())"),
    ),
    CALLBACKS: (
        (f"{_E}engine.py", "Engine._callback_url", "assert self.callbacks is not None"),
        (
            f"{_E}events.py",
            "SentEvent.sent_by",
            "key, until = stored_key(callback.nonce, principal), callback.expires_at",
        ),
        (f"{_E}events.py", "SentEvent.known_as", "key_ttl = max(key_ttl, self.known_until - now)"),
        (f"{_E}requests.py", "Requests.handle_event", "raise CallbackNotAccepted(NOT_WAITED_FOR) from error"),
        (f"{_C}events.py", "StepContext.callback_url", 'nonce = stable_key("callback", self.idempotency_key, event)'),
        (f"{_C}events.py", "EventRequest.callback_url", 'if self.action != "setup":'),
    ),
    NARROWED: (
        (
            f"{_E}listing.py",
            "Listing._narrowed",
            "salt, search, cursor = stable_key(sorted(filters.items()))[:16], dict(self.search), self.cursor",
        ),
        (f"{_E}listing.py", "visible", "except Exception as error:"),
        (f"{_E}listing.py", "visible", "if not isinstance(found, Mapping):"),
        (f"{_C}workflow.py", "Workflow.authorize", "return None"),
    ),
    LOCALS: (
        (f"{_M}frames.py", "load", "if local.has_default:"),
        (f"{_M}frames.py", "load", "try:"),
        (f"{_M}frames.py", "pack", "except (InvalidFields, PydanticSerializationError) as error:"),
        (f"{_M}frames.py", "keep", "_check_own(machine, local, values, needed)"),
        (f"{_M}frames.py", "_check_own", "value = values[local.key]"),
        (f"{_M}frames.py", "_objects_at", "found = [value]"),
        (f"{_M}frames.py", "_objects", "waiting, seen = [value], set[int]()"),
        (f"{_M}frames.py", "_can_change", "if isinstance(value, BaseModel):"),
        (f"{_M}frames.py", "_parts", "if isinstance(value, Mapping):"),
        (f"{_M}values.py", "Frame.pass_up", "parent = with_id(self._machine.execution.threads, self._thread.parent)"),
    ),
    TRANSACTIONAL: (
        (f"{_E}commits.py", "Committer._apply", "writer = transactional.writer(change.create, change.delete)"),
    ),
    REPLACED: (
        (f"{_M}state.py", "program_of", "raise UnknownStatement("),
        (
            f"{_M}state.py",
            "program_of",
            'raise ValueError(f"now is {now}, which has no time zone. Pass datetime.now(UTC)")',
        ),
        (f"{_M}state.py", "program_of", "program.refresh(type(workflow), program.unwatched)"),
        (f"{_C}program/program.py", "Program.refresh", "self.rebind(name, method)"),
    ),
    KEYS: (
        (
            f"{_E}secrets.py",
            "Secrets.opened",
            'raise DamagedDocument(f"the document of {place[0]!r} {place[1]!r} cannot be read: {error}") from error',
        ),
        (f"{_E}secrets.py", "Secrets._decrypted", "raise SecretsUnreadable("),
        (
            f"{_E}secrets.py",
            "Secrets._decrypted",
            'raise SecretsUnreadable(f"{where} cannot be decrypted: {error}") from None',
        ),
    ),
}

UNMET = {gap: reason for reason, gaps in _BY_REASON.items() for gap in gaps}
"""(path, function, code): the reason."""
