"""Gossip: who lives, known on every node within seconds, whatever the managers do.

SWIM with Lifeguard on 7946, wire-compatible with memberlist. Layers, lowest first: packing, lzw, keyring (codecs); messages, frames
(the wire); broadcasts, awareness, suspicion (parts); membership, probing (rules); swim (the state machine), all pure; node
(thread, loop, sockets) is the shell. Verdicts only ever narrow what the managers have decided.
"""
