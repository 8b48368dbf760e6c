"""What the commands share: errors, options, progress, and atomic writing of files."""
