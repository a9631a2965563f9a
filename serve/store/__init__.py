"""What the service keeps and reads: the database with its books, and history and forecasts on disk."""
