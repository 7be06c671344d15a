"""Models that judge, on a server, with their replies kept."""
