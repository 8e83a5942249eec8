"""The ``Store`` port on Firestore in native mode. Importing Google's client takes 0.2 s: import it only where it is
used."""
