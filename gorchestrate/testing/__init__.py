"""Tests of workflows: a real engine on a real database, with a clock that the test moves.

``Environment`` runs workflows in the test's process: months pass in milliseconds, and methods and children can be
replaced by fakes. ``crash_everywhere`` runs a test's script with a crash at each point where the state is saved. With
pytest, the fixture ``workflow_environment`` makes environments, and a failed test shows where their instances stand.
"""

from gorchestrate.testing.clock import ManualClock
from gorchestrate.testing.coverage import Coverage
from gorchestrate.testing.crashes import CrashProblems, crash_everywhere
from gorchestrate.testing.environment import Environment
from gorchestrate.testing.instances import InstanceHandle

__all__ = ["Coverage", "CrashProblems", "Environment", "ManualClock", "InstanceHandle", "crash_everywhere"]
