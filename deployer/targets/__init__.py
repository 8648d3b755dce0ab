"""A deployment for other programs to run: the files they read, and how it is started and ended there."""
