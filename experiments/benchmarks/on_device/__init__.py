"""The parts of the benchmark on an accelerator: what it can do at best, cases, laws, and the torch peers."""
