"""Journal: how a stream's events last. The contract is `actors.kernel.ports.Journal`; the adapter is `redis`."""
