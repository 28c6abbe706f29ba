"""Reports for people: each is one HTML file that needs no network, no JavaScript and no other file."""
