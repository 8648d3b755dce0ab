"""The engine as a process of its own: how it is started, what it is told, what it answers."""
