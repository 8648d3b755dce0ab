"""`server.processes` above 1: processes that answer, and one that holds their socket and their engine."""
