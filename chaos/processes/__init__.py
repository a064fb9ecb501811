"""Starting, ending and never leaking processes."""
