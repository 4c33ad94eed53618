"""How the fast backend's machine code is made and run: nothing here knows what a layer computes."""
