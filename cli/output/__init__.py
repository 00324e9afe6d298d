"""How answers are shown: tables, Go-style templates, JSON, times and sizes, progress."""
