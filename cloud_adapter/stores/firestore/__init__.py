"""The ``Store`` on Firestore in native mode. Google's client takes 0.2 s to import: import it only where it is used."""
