"""Plain definitions: a workflow whose program is an ordinary ``async def run(self)``.

Theory of operation. ``run`` is compiled once, when the class is created, into the same statements as an explicit
definition, and never called. The stages:

* ``source`` finds the syntax tree of a function and what its names mean.
* ``scan`` (with ``expressions``, ``calls`` and ``activities``) reads the tree: what contains no ``await`` stays Python
  code, every other piece becomes a ``Part``.
* ``flow`` finds which locals are needed where a thread rests, and checks that they are assigned by then.
* ``local_types`` finds their types.
* ``blocks`` compiles the pieces of Python code as functions that keep the user's lines, globals and closures.
* ``lower`` (with ``cases``) makes statements of the parts. ``workflow_core.program`` compiles these.

Code between two awaits runs in the commit of what came before it, like the handler of an event. Locals that are needed
after an await are stored with the thread; see ``workflow_core.machine.frames``.

Names are addresses: that of a step or a wait is the name of its method, that of a loop is its variable, that of a
section is the prefix of what is inside. Nothing that is stored depends on a line number.
"""
