"""What a person types after ``coursesyncd``: a module for each command, and what they share."""
