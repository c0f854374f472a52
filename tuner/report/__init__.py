"""What people read: tables, plans, progress."""
