"""This node's part in a `network check`: it sends probes to the other nodes, says which of theirs arrived, and looks at itself."""
