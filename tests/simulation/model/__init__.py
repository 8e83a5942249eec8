"""The model: a naive executor for each instance, and the rules that every write must follow.

Each write that succeeds must consist of one or more legal moves of the executor, each made by an actor that may make
it, or it must take or renew a lease. Afterwards the stored state must equal the state of the executor. An effect that
is lost, duplicated, out of order or applied to a wait that is over is therefore found at the write that contains it.

``instance.py`` follows the writes of one instance. Each other file contains the rule for one topic.
"""
