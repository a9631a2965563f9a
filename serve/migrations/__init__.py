"""Steps from one form of the database to the next, run by :func:`serve.store.database.open_database`."""
