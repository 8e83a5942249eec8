"""What is right: a naive executor beside each instance, and the rules that every write must keep.

Each write that lands must be exactly one legal move of the executor, or several, each by whoever may make it; or a
lease that is taken or renewed. Then the stored state must be that of the executor. So an effect that is lost, doubled,
out of order or of a wait that was over is found at the very write that has it.

``instance.py`` follows the writes of one instance; beside it, one file a topic says what a write of
that topic must keep.
"""
