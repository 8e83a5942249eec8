"""What every test may ask for."""

from tests.browser import browser, page
from tests.firestore_emulator import firestore_emulator, firestore_emulator_programs, firestore_project

__all__ = ["browser", "firestore_emulator", "firestore_emulator_programs", "firestore_project", "page"]
