"""The command line, ``gorchestrate``. No other package imports it."""
