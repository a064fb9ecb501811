"""Applications to try the framework on. The framework never imports them."""
