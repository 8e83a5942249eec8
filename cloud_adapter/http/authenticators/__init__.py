"""Authenticators: who sends a request. Each knows one kind of credential and returns a ``Principal``.

An authenticator is a port: anything that fits ``port.Authenticator`` can be passed to ``Service``. One suite of tests
runs on all of them.
"""
