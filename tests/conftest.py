"""What every test may ask for."""

from tests.firestore_emulator import firestore_emulator, firestore_emulator_programs, firestore_project

__all__ = ["firestore_emulator", "firestore_emulator_programs", "firestore_project"]
