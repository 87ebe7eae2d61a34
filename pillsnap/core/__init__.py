"""What every room needs and that knows no room: errors, files, hashes, processes, the machine."""
