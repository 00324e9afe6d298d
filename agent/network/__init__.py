"""The agent's network: a pure plan of the kernel's state, and one thread that moves the kernel to it."""
