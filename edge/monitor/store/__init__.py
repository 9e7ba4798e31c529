"""The monitor's store: SQLite or PostgreSQL, its tables, and all that is asked of them."""
