"""Fair and sound: prefix caches emptied between levels, and answers compared with the reference's."""
