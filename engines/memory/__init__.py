"""What lies on the device between steps: pages, prefixes, encoded images, and how many bytes they take."""
