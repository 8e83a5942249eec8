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
FOREIGN = "only a task or an entry that the engine has not made leads here"
GONE = "only code without the statement of an instance leads here: every revision has all statements"

PRINCIPALS = "no request of a run has a principal"

_E, _M, _C = "cloud_adapter/engine/", "workflow_core/machine/", "workflow_core/"

_NO_SECRETS = (
    "message = \"the result contains secrets: annotate the parameter of 'then' with a type that has them too\""
)
_GIVEN = "with contextlib.suppress(Exception):  # it takes anything, so its serializers may raise anything"

_BY_REASON: dict[str, tuple[tuple[str, str, str], ...]] = {
    LIBRARY: (
        (
            f"{_C}execution.py",
            "Execution.to_dict",
            'data: dict[str, Any] = _ADAPTER.dump_python(self, mode="json", by_alias=True)',
        ),
        (f"{_M}due.py", "next_work", "if step is None and machine.is_due(first.retry_at):"),
        (f"{_M}instructions.py", "_refuse_coroutine", "if iscoroutine(result):"),
        (f"{_M}instructions.py", "_step_raised", "if ("),
        (f"{_M}instructions.py", "run", "checkpoint(kind)"),
        (f"{_M}instructions.py", "run", "if checkpoint is not None and kind is not None:"),
        (f"{_M}instructions.py", "run", "raise _endless(thread, allowance)"),
        (f"{_M}instructions.py", "run_alone", "execution = machine.execution"),
        (f"{_M}results.py", "handle_result", "work.handle_result(machine, result)"),
        (
            f"{_M}unwinding.py",
            "catches",
            ("return _is_caught(machine, thread, instruction.guard, error_info(error, instruction.name))"),
        ),
        (f"{_M}unwinding.py", "tries_again", "policy = policy or machine.workflow.default_retry"),
        (
            f"{_M}work.py",
            "ActivityWork.call",
            "return call_activity(machine, _accepted(machine, self.thread, self.statement))",
        ),
        (f"{_M}work.py", "ActivityWork.done", "handled(machine, _accepted(machine, self.thread, self.statement))"),
        (f"{_M}work.py", "ActivityWork.failed", "check_wait(self.wait, WaitHappening.ATTEMPT_FAILED)"),
        (f"{_M}work.py", "ActivityWork.handle_result", "accepted = _accepted(machine, self.thread, self.statement)"),
        (f"{_M}work.py", "ActivityWork.policy", "case = _accepted(machine, self.thread, self.statement).case"),
        (f"{_M}work.py", "StepWork.call", "return instruction.action(machine.workflow)"),
        (f"{_C}program/program.py", "Program.select", "raise self.unknown(name)"),
        (f"{_C}program/program.py", "Program.step", "raise self.unknown(name)"),
    ),
    DAMAGED: (
        (
            "cloud_adapter/document.py",
            "_check_timers",
            'raise TypeError(f"the task of {wait.event!r} is {wait.task!r:.100}")',
        ),
        ("cloud_adapter/document.py", "decode", "except (ValueError, KeyError, TypeError, AttributeError) as error:"),
        (
            "cloud_adapter/document.py",
            "decode",
            ('raise DamagedDocument(f"{place} cannot be read: {name!r} is {document.get(name)!r:.100}")'),
        ),
        (
            "cloud_adapter/document.py",
            "decode",
            (
                'raise DamagedDocument(f"{place} has format {format!r}, this release reads 1 to {'
                'FORMAT}: upgrade gorchestrate")'
            ),
        ),
        (
            f"{_E}commits.py",
            "Committer._write",
            "raise error from None  # a damaged document was not written by this commit",
        ),
        (f"{_E}tasks.py", "InstanceTask._forgive", "texts = value if isinstance(value, dict) else {}"),
        (f"{_E}tasks.py", "timer_name", "return fence  # an earlier release stored the name itself"),
        (f"{_C}compact.py", "_column", "elif kinds in _SHARED:"),
        (f"{_C}compact.py", "_column", "if all([*value] == keys for value in values):"),
        (f"{_C}compact.py", "_column", "if all(len(value) == len(first) for value in values):"),
        (f"{_C}compact.py", "_leave_ids_out", 'if wait["id"] == wait_id:'),
        (f"{_C}compact.py", "_width", 'raise ValueError("its columns are nested too deeply")'),
        (f"{_C}compact.py", "fold", "if cells <= cells_left:"),
        (f"{_M}results.py", "retry_errors", "if wait.status is WaitStatus.SETUP_ERROR:"),
    ),
    MISTAKE: (
        (f"{_E}children.py", "_TakeEnd.decide", "error = error_info(raised, event)"),
        (f"{_E}children.py", "_end", "except Exception as error:"),
        (f"{_E}failures.py", "take_result", "except Exception as raised:"),
        (f"{_E}recovery.py", "Recovery._recover", "text = error_text(error)[:500]"),
        (f"{_E}registry.py", "by_name", "raise DefinitionError("),
        (f"{_E}session.py", "Session.next_work", "except WorkflowError:"),
        (f"{_E}session.py", "condition_error", 'notes = "; ".join(getattr(error, "__notes__", []))'),
        (f"{_E}user_code.py", "_awaited", "raise _ordinary(error) from error"),
        (f"{_E}user_code.py", "_ordinary", "ordinary.add_note(note)"),
        (
            "cloud_adapter/stores/search.py",
            "_why_not",
            'return "the value of a search field must be a text, a number, a boolean or null"',
        ),
        (f"{_M}due.py", "_holds", "except BaseException as error:"),
        (
            f"{_M}instructions.py",
            "_endless",
            ('passed = f"thread {thread.id!r} passed {MOVES_MAX} instructions without reaching a step or a"'),
        ),
        (f"{_M}instructions.py", "_rested", "raise _endless(thread, allowance)"),
        (
            f"{_M}state.py",
            "MachineState.__init__",
            'raise ValueError(f"now is {now}, which has no time zone. Pass datetime.now(UTC)")',
        ),
        (
            f"{_M}threads.py",
            "go",
            ('raise ExecutionError(f"Go {instruction.name!r}: its id function returned {value!r}. Return a text")'),
        ),
        (f"{_M}values.py", "item_of", "raise ExecutionError("),
        (
            f"{_M}values.py",
            "items_of",
            (
                'raise ExecutionError(f"ForEach {loop.name!r}: its items are {items!r:.100}, whic'
                'h has no order. Return a list")'
            ),
        ),
        (f"{_M}values.py", "json_of", "except PydanticSerializationError as error:"),
        (f"{_M}waits.py", "_deadline", "if isinstance(delay, datetime) and delay.tzinfo is not None:"),
        (
            f"{_C}retry.py",
            "Retry.__post_init__",
            ('raise DefinitionError("Retry", f"factor is {self.factor!r}", "Give a number of 1 or more.")'),
        ),
        (
            f"{_C}retry.py",
            "Retry.__post_init__",
            ('raise DefinitionError("Retry", f"jitter is {self.jitter!r}", "Give a number from 0 to 1.")'),
        ),
        (
            f"{_C}retry.py",
            "Retry.__post_init__",
            ('raise DefinitionError("Retry", f"max_attempts is {attempts!r}", "Give 1 for a single attempt.")'),
        ),
        (
            f"{_C}retry.py",
            "Retry.__post_init__",
            ('raise DefinitionError("Retry", f"{what} is {delay!r}", f"Write {what}=timedelta(seconds=2).")'),
        ),
        (f"{_C}retry.py", "Retry.delay", "except OverflowError:"),
        (
            f"{_C}retry.py",
            "check_error_types",
            ('raise DefinitionError(where, f"{cls!r} is not an error class", "Use classes such as ValueError.")'),
        ),
        (f"{_C}workflow.py", "Workflow.__pydantic_init_subclass__", "raise DefinitionError("),
        (
            f"{_C}workflow.py",
            "Workflow.__pydantic_init_subclass__",
            ('raise DefinitionError(where, "it has no definition", "Write definition = S(...) in the class.")'),
        ),
        (
            f"{_C}workflow.py",
            "Workflow.__pydantic_init_subclass__",
            ('raise DefinitionError(where, "the name is not valid in a URL", f"Use {_NAME.pattern}.")'),
        ),
        (f"{_C}workflow.py", "Workflow.dump_fields", "except PydanticSerializationError as error:"),
        (f"{_C}workflow.py", "Workflow.load_fields", "except Exception as error:"),
        (f"{_C}workflow.py", "Workflow.new.validated", "except ValidationError as error:"),
        (f"{_C}workflow.py", "Workflow.pack_result", "except PydanticSerializationError as error:"),
        (f"{_C}workflow.py", "Workflow.refuse_changes", "except Changed as error:"),
        (f"{_C}workflow.py", "_form", "raise DefinitionError("),
        (f"{_M}events.py", "handle_json", _NO_SECRETS),
        (f"{_M}passing.py", "pack_input", "except _ERRORS as error:"),
        (f"{_M}passing.py", "pack_result", "except _ERRORS as error:"),
        (f"{_M}passing.py", "_pack", "try:"),
        (f"{_M}passing.py", "_stored", "if isinstance(leaf, float) and not math.isfinite(leaf):"),
        (f"{_C}workflow.py", "_check_search_fields", "raise DefinitionError("),
        (
            f"{_C}workflow.py",
            "_check_search_fields",
            ('raise DefinitionError(where, f"its search field {field!r} is not a field", "Name fields of the model.")'),
        ),
        (
            f"{_C}workflow.py",
            "_has_single_values",
            ('return any(_has_single_values(alternative, definitions) for alternative in schema["anyOf"])'),
        ),
        (f"{_C}workflow.py", "_resolved", 'schema = definitions[schema["$ref"].rpartition("/")[2]]'),
        (
            f"{_C}workflow.py",
            "_schema",
            "except (PydanticUserError, PydanticInvalidForJsonSchema, NameError) as error:",
        ),
    ),
    GONE: (
        (f"{_E}operations.py", "_settle_if_known", "except UnknownStatement:"),
        (f"{_E}recovery.py", "Recovery._recover", 'text = "the definition no longer has the statements that are due"'),
        (f"{_E}recovery.py", "_can_move", "return False"),
        (f"{_E}registry.py", "served", "except KeyError:"),
        (
            f"{_E}task_handler.py",
            "run_task",
            ('_logger.exception("task to %s failed, and a new attempt cannot fix it: %s", path, dict(body))'),
        ),
        (f"{_E}task_handler.py", "run_task", '_logger.exception("task to %s failed: %s", path, dict(body))'),
        (f"{_E}view.py", "view_of", "except UnknownStatement as error:"),
        (f"{_M}events.py", "accepted_by", "except KeyError:"),
        (f"{_M}events.py", "event_handler", "raise machine.program.unknown(event)"),
        (f"{_M}instructions.py", "_left", "if leave.kind not in instruction.exits:"),
        (f"{_M}state.py", "MachineState.__init__", "raise UnknownStatement("),
        (f"{_M}threads.py", "start_of", "except KeyError:"),
        (f"{_C}program/program.py", "Program.at", "except KeyError:"),
        (f"{_C}program/program.py", "Program.statements_of", "raise self.unknown(thread)"),
        (f"{_C}program/program.py", "Program.unknown", "return UnknownStatement("),
    ),
    ABSTRACT: (
        (f"{_E}decisions.py", "Decision.decide", "raise NotImplementedError"),
        (f"{_E}deliveries.py", "TaskDecision.deliver", "raise NotImplementedError"),
        (f"{_E}inbox.py", "Deferrable.content", "raise NotImplementedError"),
        (f"{_E}inbox.py", "Deferrable.name", "raise NotImplementedError"),
        (f"{_E}operations.py", "Operation.apply", "raise NotImplementedError"),
        (f"{_M}state.py", "MachineState.run", "raise NotImplementedError"),
        (f"{_M}work.py", "Work.attempt", "raise NotImplementedError"),
        (f"{_M}work.py", "Work.call", "return None"),
        (f"{_M}work.py", "Work.done", "raise NotImplementedError"),
        (f"{_M}work.py", "Work.statement", "raise NotImplementedError"),
        (f"{_C}wait_types.py", "Wait.left", "return None"),
    ),
    DEFENSIVE: (
        ("cloud_adapter/document.py", "with_lease", "if document is not None:"),
        (f"{_E}children.py", "Children.perform", "case _:"),
        (f"{_E}lanes.py", "Lanes.contended", "return self._contended.keys()"),
        (f"{_E}recovery.py", "Recovery.run", "if scheduled < limit:"),
        (f"{_E}recovery.py", "Recovery.run", "last = instances[-1]"),
        (f"{_E}recovery.py", "Recovery.run", "while scheduled < limit:"),
        (f"{_E}session.py", "Session.check_fields", "if not self.is_lax:"),
        (f"{_E}transaction.py", "Transactor._refuse_duplicates", "except Exception as raised:"),
        (f"{_M}threads.py", "end", "for index, other in enumerate(execution.threads):"),
        (f"{_M}transitions.py", "check_thread", 'what = f"thread {thread.id!r} at {thread.step!r}"'),
        (f"{_M}transitions.py", "check_wait", 'what = f"the wait {wait.id!r} for {wait.event!r}"'),
        (f"{_M}unwinding.py", "_fail_branch", "return"),
    ),
    PRINCIPALS: (
        (f"{_E}events.py", "SendEvent._accepted", "cases: list[ClientCase] = []"),
        (f"{_E}events.py", "SendEvent._check_buffering", "raise caller.refused_event(event, refused)"),
        (f"{_E}events.py", "SendEvent._not_accepted", "machine = session.machine"),
        (f"{_E}events.py", "SendEvent.decide", "session.machine.touched |= narrows(session.cls)"),
        (f"{_E}idempotency.py", "stored_key", 'return f"\\N{SECTION SIGN}{stable_key(principal.id, key)} {key}"'),
        (f"{_E}listing.py", "Listing.read", "roles = self.cls.access.list"),
        (f"{_E}listing.py", "visible", "where = f\"'visible' of workflow {cls.__workflow_name__!r}\""),
        (f"{_E}registry.py", "without", "if workflows.get(cls.__workflow_name__) is not cls:"),
        (f"{_E}requests.py", "Requests.create", "caller = Caller(principal, ref)"),
        (f"{_E}requests.py", "Requests.get", "caller = Caller(principal, ref)"),
        (f"{_E}requests.py", "Requests.handle_event", "caller = Caller(principal, ref)"),
        (f"{_E}requests.py", "Requests.operate", "caller = Caller(principal, ref)"),
        (f"{_E}session.py", "begin", "check(new)"),
        (f"{_M}events.py", "find_all", "event = machine.program.event(event)"),
        (f"{_M}events.py", "handled", "thread.caused_by = machine.principal.id"),
        (f"{_M}events.py", "handled", 'thread.caused_by = ""'),
    ),
    PAGES: (
        ("cloud_adapter/engine/view.py", "View.state", "fields = self.instance.fields"),
        ("cloud_adapter/engine/view.py", "_with_finite_numbers", "if isinstance(data, dict):"),
        (f"{_C}workflow.py", "Workflow.shown_fields", "form = cls.__form__"),
        ("cloud_adapter/document.py", "HistoryKind.failed", "return self in _FAILED"),
        (f"{_E}engine.py", "Engine.check_store", "await self.store.ping()"),
        (f"{_E}engine.py", "Engine.response", "ref = self._ref(workflow, id)"),
        (f"{_E}operations.py", "Action.is_offered", "return not execution.ended"),
        (f"{_E}operations.py", "Action.refusal", "return _ended(id, Status.FINISHED, cls.past)"),
        (f"{_E}operations.py", "Cancel.is_offered", "return not execution.ended and not execution.canceling"),
        (
            f"{_E}operations.py",
            "Operation.arguments",
            ("return {name: field for name, field in cls.model_fields.items() if name not in Operation.model_fields}"),
        ),
        (f"{_E}operations.py", "Operation.from_json", "try:"),
        (
            f"{_E}operations.py",
            "Pause.is_offered",
            "return not execution.ended and execution.status is not Status.PAUSED",
        ),
        (f"{_E}operations.py", "RetryFailed.is_offered", "return execution.status is Status.FAILED"),
        (
            f"{_E}operations.py",
            "RetryFailed.refusal",
            'return RepairRefused(f"{id!r} is waiting: only failed instances can be {cls.past}")',
        ),
        (f"{_E}operations.py", "Unpause.is_offered", "return execution.status is Status.PAUSED"),
    ),
    KINDS: (
        (
            f"{_E}activities.py",
            "Activities._call",
            "output = await run_sync(call, machine.call_activity, accepted, heartbeat)",
        ),
        (f"{_E}activities.py", "Activities._call", "return output"),
        (
            "cloud_adapter/stores/search.py",
            "_value",
            ('reason = f"a text to search for must have at most {TEXT_BYTES_MAX:,} bytes and no NUL characters"'),
        ),
        ("cloud_adapter/stores/search.py", "_why_not", 'return "a number in a search field must be finite"'),
        (f"{_M}calls.py", "call_activity", "if spec.signature.takes_input:"),
        (f"{_M}calls.py", "call_activity", "if spec.takes_context:"),
        (f"{_M}events.py", "handle", "each = machine.program.at(accepted.thread.step).each"),
        (f"{_M}events.py", "handle", "return None"),
        (
            f"{_M}instructions.py",
            "_branch_of_item",
            ("holds = instruction.cond(machine.workflow, item_of(machine, thread, instruction.each)[0])"),
        ),
        (f"{_M}unwinding.py", "depart", "if clause.then is not None:"),
        (f"{_M}values.py", "items_of", "outer = loop.outer if isinstance(loop, Each) else loop.each"),
        (
            f"{_M}values.py",
            "value_of",
            ("return function.function(machine.workflow, item_of(machine, thread, instruction.each)[0])"),
        ),
        (f"{_M}passing.py", "pack_fields", "return _stored(type(given).__input_form__.pack(given))"),
        (f"{_M}passing.py", "pack_fields", "return _stored(_pack_given(cls, given))"),
        (f"{_M}passing.py", "_pack_given", _GIVEN),
        (f"{_M}waits.py", "_activity_input", 'return Packed(b"null")'),
        (f"{_M}waits.py", "_activity_input", "elif instruction.each is None and signature.has_default:"),
        (f"{_C}workflow.py", "Workflow.migrate", "return fields"),
        (f"{_C}workflow.py", "Workflow.pack_result", "packed = cls.__form__.pack(self)"),
    ),
    LARGE: (
        (
            "cloud_adapter/document_size.py",
            "check_size",
            "((name, count),) = Counter(thread.name for thread in threads).most_common(1)",
        ),
        (
            "cloud_adapter/document_size.py",
            "check_size",
            (
                "bytes_of = {name: len(json.dumps(value, ensure_ascii=False).encode()) for name, "
                "value in fields.items()}"
            ),
        ),
        ("cloud_adapter/document.py", "_last_entries", "if len(entries) <= limit:"),
        ("cloud_adapter/document.py", "_last_entries", 'return "[]"'),
        ("cloud_adapter/document.py", "check_entry", "raise InvalidRequest("),
        ("cloud_adapter/document.py", "check_entry", "raise TooLarge("),
        (f"{_E}activities.py", "Activities._is_over", "accepted = awaited(await self.committer.load(ref), result)"),
        (f"{_E}activities.py", "Activities.deliver", "is_delivered = await self._is_over(ref, result, error)"),
        (
            f"{_E}events.py",
            "SendEvent._accepted",
            "raise _not_from_clients(accepted, machine.accepted_names(), session)",
        ),
        (f"{_E}inbox.py", "Inbox.collect", "if len(entries) < COLLECT_MAX:"),
        (
            f"{_E}lanes.py",
            "Lane._give_way",
            ("await self.lanes.committer.clock.sleep(min(decided * REST_SECONDS, REST_SECONDS_MAX))"),
        ),
        (f"{_E}plan.py", "next_stops", "yield _resume(execution, key, at, now, horizon)"),
        (f"{_E}schedule.py", "stop_before", "half = horizon / 2"),
        (f"{_E}transaction.py", "Transactor._ask_all", "item.single = True"),
        (f"{_E}transaction.py", "Transactor._commit", "await asyncio.sleep(0)"),
    ),
    FOREIGN: (
        (f"{_E}inbox.py", "Inbox._take", "except (KeyError, TypeError, ValueError) as error:"),
        (f"{_E}task_handler.py", "run_task", "except ValidationError as error:"),
        (
            f"{_E}task_handler.py",
            "run_task",
            ("raise InvalidRequest(f\"unknown task path {path!r}. Available: {', '.join(sorted(_KINDS))}\")"),
        ),
    ),
}

UNMET = {gap: reason for reason, gaps in _BY_REASON.items() for gap in gaps}
"""(path, function, code): the reason."""
