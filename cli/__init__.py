"""What every command shares: its errors, its progress, and files that are written whole or not at all."""
