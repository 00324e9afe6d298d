"""The Engine API: what `docker`, SDKs and web UIs talk to. Made by agent/daemon.py; see app.py for the entry."""
