"""Agents of pydantic-ai as workflows: each request to the model and each call of a tool is an activity.

Needs the extra ``pydantic-ai``.

Theory of operation. The loop of an agent is ``AgentWorkflow.ask``, a section that the workflow's ``run`` awaits. It is
compiled as the rest of ``run`` is, so an instance stops at each activity, and nothing that is committed is repeated. An
activity steps an ``agent.iter`` to where the agent would go on by itself: ``request_model`` to the calls of tools in
the response, ``call_tool`` to the next request. pydantic-ai thus still does everything else: instructions, validation
of arguments and outputs, retries of outputs, limits. The messages are stored as JSON, in the form of pydantic-ai.
"""

from importlib import import_module

try:
    import_module("pydantic_ai")
except ImportError as error:
    raise ImportError(f"{error}: install the extra with pip install 'gorchestrate[pydantic-ai]'") from error

from gorchestrate.pydantic_ai.records import AgentStopped, ConversationTooLong, Decision, OpenCall
from gorchestrate.pydantic_ai.workflow import AgentWorkflow

__all__ = ["AgentStopped", "AgentWorkflow", "ConversationTooLong", "Decision", "OpenCall"]
