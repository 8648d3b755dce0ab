"""One step after another: the batch that goes to the device, its run, and what comes back."""
