"""Gossip: who lives, known on every node within seconds, whatever the managers do.

SWIM with Lifeguard on 7946, wire-compatible with memberlist. Layers, lowest first: packing, lzw, keyring (codecs); messages, frames
(the wire); broadcasts, awareness, suspicion (parts); membership, probing, rounds (rules), outbox (the ways out); swim (the state machine), all
pure; streams, pipe, member (the thread with loop and sockets) and node (the main loop's side of it) are the shell. Verdicts only ever narrow
what the managers have decided.
"""
