"""`mlzsl gallery`: shows tagged photos as an HTML page or a contact sheet."""
