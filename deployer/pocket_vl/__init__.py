"""The model that ships: its pictures, its questions, its training and its evaluation."""
