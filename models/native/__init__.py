"""C++ built for the processor at hand at first use, and its loading."""
