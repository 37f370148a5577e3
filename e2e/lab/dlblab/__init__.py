"""A real Kubernetes cluster on one Linux machine, for DirectLB's end-to-end tests."""
