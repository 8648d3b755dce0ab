"""In which order features, separators and tiles become the rows of a picture."""
