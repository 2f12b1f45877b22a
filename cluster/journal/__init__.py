"""Journal: how a stream's events last. The contract is `actors.kernel.ports.Journal`; the adapter is `redis`."""


def check_layout(store: str, found: tuple[int, int], wanted: tuple[int, int]) -> None:
    """Raise ValueError if a system's layout (packet and wallet streams) is not the configured one."""
    if found != wanted:
        raise ValueError(
            f"the system in {store} was created with {found[0]} packet and {found[1]} wallet streams, "
            f"the configuration says {wanted[0]} and {wanted[1]}: the layout is fixed at creation, set it back"
        )
