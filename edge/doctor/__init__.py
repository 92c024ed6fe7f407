"""`edge doctor`: what is right and wrong on this machine, and how to mend it."""
