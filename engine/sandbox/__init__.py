"""State hosts, and the user code they run: WebAssembly, or trusted Python."""
