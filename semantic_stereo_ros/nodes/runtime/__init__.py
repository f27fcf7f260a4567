"""How a node lives in its process, whatever it does: parameters, lifecycle, threads, quality of service, shared memory, transforms."""
