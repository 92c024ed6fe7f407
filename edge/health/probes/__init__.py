"""Programs and drivers that know more of the machine than its files tell: whom to ask, and how."""
