"""From a picture to the numbers a tower reads: numpy and PIL, torch-free."""
